//! Cancelling goes back, and never further than to what was there before.

use std::{collections::BTreeMap, time::Duration};

use tappaas_core::{
    Error, ErrorKind, Kind, ListRequest,
    memory::Behaviour,
    model::{EnvValue, OperationState, Phase, ReleasePhase},
};

use super::{
    guarded::Question,
    world::{World, content, key, name, scope},
};

/// Refuses the reports that operations ended so.
fn refuse_reports(world: &World, state: &'static str) {
    world.guard.set(move |question| async move {
        match question {
            Question::PutStatus(object)
                if object.metadata.name.starts_with("id-") && object.status["state"] == state =>
            {
                Err(Error::unavailable("not now"))
            }
            _ => Ok(()),
        }
    });
}

#[tokio::test(start_paused = true)]
async fn cancelling_the_first_deployment_leaves_nothing() {
    let world = World::new().await;
    let accepted = world.deploy("web", content("endless"), 1).await;
    let id = accepted.operation.clone().unwrap();
    world.platform.cancel(&scope(), &id).await.unwrap();
    let operation = world.ended(&accepted).await;
    assert_eq!(operation.status.state, OperationState::Cancelled);
    let gone = || world.application("web").is_none().then_some(());
    world.until("the application is gone", gone).await;
}

#[tokio::test(start_paused = true)]
async fn what_became_healthy_while_it_was_cancelled_lives_on() {
    let world = World::new().await;
    world.behave("v1", Behaviour::listening_after(Duration::from_secs(1)));
    let store = world.platform.backends().store.clone();
    world.guard.set(move |question| {
        let store = store.clone();
        async move {
            match question {
                // The mark of the cancellation comes once the release is healthy, of which nobody told the operation.
                Question::Put(object) if object.spec["cancelled"] == true => loop {
                    let releases = ListRequest::new(Kind::Release, scope());
                    let page = store.list(&releases).await?;
                    if page.objects.iter().any(|r| r.status["phase"] == "healthy") {
                        return Ok(());
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                },
                Question::PutStatus(object) if object.status["state"] == "succeeded" => {
                    Err(Error::unavailable("not now"))
                }
                _ => Ok(()),
            }
        }
    });
    let accepted = world.deploy("web", content("v1"), 1).await;
    let id = accepted.operation.clone().unwrap();
    let refused = world.platform.cancel(&scope(), &id).await;
    world.guard.open();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    let application = world.settled("web").await;
    assert_eq!(
        (application.metadata.deletion, application.status.current),
        (None, Some(1))
    );
    let operation = world.ended(&accepted).await;
    assert_eq!(operation.status.state, OperationState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_newer_deployment_survives_the_cancellation_of_an_older_one() {
    let world = World::new().await;
    world.behave("v2", Behaviour::listening_after(Duration::from_secs(5)));
    refuse_reports(&world, "superseded");
    let older = world.deploy("web", content("endless"), 1).await;
    let newer = world.deploy("web", content("v2"), 1).await;
    let id = older.operation.clone().unwrap();
    world.platform.cancel(&scope(), &id).await.unwrap();
    world.guard.open();
    let operation = world.ended(&newer).await;
    assert_eq!(
        operation.status.state,
        OperationState::Succeeded,
        "{}",
        operation.status.message
    );
    let older = world.ended(&older).await;
    assert_eq!(older.status.state, OperationState::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn cancelling_keeps_an_application_that_was_there_though_nothing_of_it_was_ever_healthy() {
    let world = World::new().await;
    world.behave("v1", Behaviour::exiting(1));
    let failed = world.deployed("web", content("v1"), 1).await;
    assert_eq!(failed.status.state, OperationState::Failed);
    let set = BTreeMap::from([("A".to_owned(), EnvValue::new("1".to_owned()))]);
    let configured = world.platform.configure(&key("web"), set, Vec::new()).await;
    world.ended(&configured.unwrap()).await;
    let before = world.application("web").unwrap();

    let accepted = world.deploy("web", content("endless"), 1).await;
    let id = accepted.operation.clone().unwrap();
    world.platform.cancel(&scope(), &id).await.unwrap();
    let operation = world.ended(&accepted).await;
    assert_eq!(operation.status.state, OperationState::Cancelled);

    let application = world.settled("web").await;
    assert_eq!(application.metadata.uid, before.metadata.uid);
    assert_eq!(application.spec.content, before.spec.content);
    assert_eq!(application.spec.scale[&name("web")], 1);
    assert_eq!(application.status.phase, Phase::Failed);
    let failed = |r: &tappaas_core::model::Release| r.status.phase == ReleasePhase::Failed;
    assert!(world.releases("web").iter().filter(|r| failed(r)).count() >= 2);
}
