//! Routes of which the ingress does not say yet that they are served.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tappaas_core::model::Phase;

use super::{
    guarded::{Pending, Question},
    world::{World, content},
};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_pending_route_is_told_of_and_applied_again_only_where_that_may_help() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    world.settled("web").await;
    let applied = Arc::new(AtomicU32::new(0));
    let counted = applied.clone();
    world.guard.set(move |question| {
        if matches!(question, Question::ApplyRoute(_)) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        async { Ok(()) }
    });
    let object = || world.application("web").expect("it is there");
    let told = || {
        let status = object().status;
        status.phase == Phase::Running && status.message.contains("nobody has looked at it")
    };

    world.guard.keep_pending(Some(Pending(None)));
    world
        .until("the status tells of it", || told().then_some(()))
        .await;
    tokio::time::sleep(MINUTE).await;
    assert!(told() && applied.load(Ordering::Relaxed) > 0);

    world
        .guard
        .keep_pending(Some(Pending(Some(Duration::from_secs(1)))));
    world
        .until("it passes by itself", || (!told()).then_some(()))
        .await;
    let (before, revision) = (applied.load(Ordering::Relaxed), object().metadata.revision);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(applied.load(Ordering::Relaxed), before);
    assert_eq!(object().metadata.revision, revision);
}

#[tokio::test(start_paused = true)]
async fn an_application_runs_once_its_first_routes_have_followed() {
    let world = World::new().await;
    world
        .guard
        .keep_pending(Some(Pending(Some(Duration::from_secs(1)))));
    world.healthy("web", content("v1"), 1).await;
    tokio::time::sleep(MINUTE).await;
    let status = || world.application("web").expect("it is there").status;
    assert_eq!(status().phase, Phase::RollingOut);
    assert!(status().message.contains("nobody has looked at it"));
    world.guard.keep_pending(None);
    let runs = || (status().phase == Phase::Running).then_some(());
    world.until("it runs", runs).await;
    assert_eq!(status().message, "");
}
