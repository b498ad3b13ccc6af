use std::sync::Arc;

use tappaas_core::{
    Batch, Durable, Error, ErrorKind,
    backend::{Scheduler, SchedulerCapabilities},
    mock::{MockDurable, MockScheduler},
};

#[tokio::test]
async fn a_mock_answers_as_it_is_told_behind_its_trait() {
    let mut mock = MockScheduler::new();
    mock.expect_capabilities()
        .return_const(SchedulerCapabilities::default());
    mock.expect_nodes()
        .times(2)
        .returning(|| Err(Error::unavailable("no machine answers")));
    let scheduler: Arc<dyn Scheduler> = Arc::new(mock);
    assert!(!scheduler.capabilities().stepwise);
    for _ in 0..2 {
        let error = scheduler.nodes().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_mock_of_durable_sees_every_argument() {
    let mut mock = MockDurable::new();
    mock.expect_scan()
        .withf(|table, prefix, after, limit| {
            (table, prefix, after.as_deref(), *limit) == ("t", b"p", Some(&b"pa"[..]), 7)
        })
        .returning(|_, _, _, _| Ok(Vec::new()));
    mock.expect_commit()
        .returning(|_| Err(Error::conflict("changed")));
    let durable: Arc<dyn Durable> = Arc::new(mock);
    assert_eq!(durable.scan("t", b"p", Some(b"pa"), 7).await.unwrap(), []);
    let error = durable.commit(Batch::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}
