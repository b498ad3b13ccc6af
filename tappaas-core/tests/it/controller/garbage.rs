//! The collector meets applications that are made anew while it looks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tappaas_core::{
    backend::{Scheduler as _, Track, Workload, WorkloadId},
    model::OperationState,
};
use tokio::sync::Notify;

use super::{
    guarded::Question,
    world::{World, content, key, name},
};

/// Holds the first question of a kind up until it is let go; says when it came.
fn hold(world: &World, wanted: fn(&Question) -> bool) -> (Arc<Notify>, Arc<Notify>) {
    let (came, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (first, told, gone) = (AtomicBool::new(true), came.clone(), go.clone());
    world.guard.set(move |question| {
        let held = wanted(&question) && first.swap(false, Ordering::Relaxed);
        let (told, gone) = (told.clone(), gone.clone());
        async move {
            if held {
                told.notify_one();
                gone.notified().await;
            }
            Ok(())
        }
    });
    (came, go)
}

#[tokio::test(start_paused = true)]
async fn the_releases_of_an_application_made_anew_are_kept() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    world.settled("web").await;
    let (came, go) = hold(
        &world,
        |question| matches!(question, Question::Got(asked) if *asked == key("web").object()),
    );
    // Of a release whose owner is not known the collector asks whether it is there.
    let mut release = world.releases("web").pop().unwrap();
    release.metadata.owners[0].uid = "another".to_owned();
    world.platform.client().update(&release).await.unwrap();
    came.notified().await;
    let accepted = world.platform.destroy(&key("web")).await.unwrap();
    let operation = world.ended(&accepted).await;
    assert_eq!(operation.status.state, OperationState::Succeeded);
    world.healthy("web", content("v2"), 1).await;
    world.settled("web").await;
    // One that is lost would be made again.
    let releases = || world.releases("web").into_iter().map(|r| r.metadata.uid);
    let before: Vec<_> = releases().collect();
    go.notify_one();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(releases().collect::<Vec<_>>(), before);
}

#[tokio::test(start_paused = true)]
async fn the_routes_of_an_application_made_anew_are_kept() {
    let world = World::new().await;
    let orphan = Workload {
        id: WorkloadId {
            application: key("web"),
            process: name("old"),
            track: Track::Stable,
        },
        generation: 1,
        releases: Vec::new(),
        rollout: None,
        autoscale: None,
    };
    world.scheduler.apply(&orphan).await.unwrap();
    let (came, go) = hold(&world, |question| matches!(question, Question::ListRoutes));
    came.notified().await;
    world.healthy("web", content("v1"), 1).await;
    world.settled("web").await;
    go.notify_one();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let answer = world.ingress.request("web.localhost", "/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "1 /"));
}

#[tokio::test(start_paused = true)]
async fn a_workload_without_an_application_is_removed() {
    let world = World::new().await;
    let orphan = Workload {
        id: WorkloadId {
            application: key("web"),
            process: name("web"),
            track: Track::Stable,
        },
        generation: 1,
        releases: Vec::new(),
        rollout: None,
        autoscale: None,
    };
    world.scheduler.apply(&orphan).await.unwrap();
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(world.scheduler.list().await.unwrap(), []);
}
