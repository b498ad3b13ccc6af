//! Writes that are refused by others, or by etcd's limits.

use std::sync::Arc;

use futures::future::join_all;
use serde_json::json;
use tappaas_core::{ErrorKind, Object, Precondition, Store as _};

use crate::{
    etcd::Etcd,
    seat::{application, create, open},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_servers_that_write_at_one_revision_one_succeeds() {
    let etcd = Etcd::start(&[]).await;
    let config = etcd.config("/t");
    let (one, other) = (open(&config).await.unwrap(), open(&config).await.unwrap());
    let mut object = create(&one, "a").await.unwrap();
    let stores = [Arc::new(one), Arc::new(other)];
    for round in 1..=50 {
        let expected = Precondition::Revision(object.metadata.revision);
        let writes = stores.iter().enumerate().map(|(writer, store)| {
            let (store, spec) = (Arc::clone(store), json!({ "by": writer, "round": round }));
            let object = Object {
                spec,
                ..object.clone()
            };
            tokio::spawn(async move { store.put(object, expected).await })
        });
        let answers = join_all(writes).await;
        let (done, refused): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .map(|answer| answer.unwrap())
            .partition(Result::is_ok);
        assert_eq!((done.len(), refused.len()), (1, 1), "round {round}");
        let refused = refused.into_iter().next().unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused:?}");
        object = done.into_iter().next().unwrap().unwrap();
        let kept = stores[round % 2].get(&object.key()).await.unwrap();
        assert_eq!(kept.as_ref(), Some(&object));
    }
}

#[tokio::test]
async fn an_object_above_the_limit_of_etcd_is_refused_by_its_name() {
    let etcd = Etcd::start(&["--max-request-bytes=65536"]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    // etcd refuses the first by its own limit, the second by that of its connections.
    for bytes in [100_000, 900_000] {
        let large = application("a", json!("x".repeat(bytes)));
        let refused = store.put(large, Precondition::Absent).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Exhausted, "{refused:?}");
        assert!(
            refused.message().contains("--max-request-bytes"),
            "{refused:?}"
        );
    }
    create(&store, "a").await.unwrap();
}

#[tokio::test]
async fn a_full_etcd_is_told_from_one_that_is_not_there() {
    const WRITES_MAX: usize = 100;
    let etcd = Etcd::start(&["--quota-backend-bytes=4000000"]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    for n in 0..WRITES_MAX {
        let object = application(&format!("a-{n}"), json!("x".repeat(500_000)));
        if let Err(refused) = store.put(object, Precondition::Absent).await {
            assert_eq!(refused.kind(), ErrorKind::Exhausted, "{refused:?}");
            assert!(refused.message().contains("no space"), "{refused:?}");
            return;
        }
    }
    panic!("etcd took everything");
}
