//! Routes of which the ingress does not say yet that they are served.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{
    guarded::{Pending, Question},
    world::{World, content},
};

#[tokio::test(start_paused = true)]
async fn a_pending_route_is_applied_again_only_where_that_may_help() {
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
    let told = || {
        let message = world.application("web")?.status.message;
        Some(message.contains("nobody has looked at it"))
    };
    for (look_after, again) in [(Some(Duration::from_secs(1)), false), (None, true)] {
        let before = applied.load(Ordering::Relaxed);
        world.guard.keep_pending(Some(Pending(look_after)));
        world
            .until("the status tells of it", || told().filter(|told| *told))
            .await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(applied.load(Ordering::Relaxed) > before, again);
        world.guard.keep_pending(None);
        world
            .until("it is served", || told().filter(|told| !told))
            .await;
    }
}
