//! Clocks that are set, and wakes that come while a run fails.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tappaas_core::{
    Error, Kind,
    backend::InstanceId,
    memory::Behaviour,
    model::{OperationState, ReleasePhase},
};
use tokio::time::Instant;

use super::{
    guarded::Question,
    world::{World, content, key, name},
};

/// More than any deadline of these tests.
const BACK: i64 = -7200;

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_nothing_overdue() {
    let world = World::new().await;
    let slow = Behaviour {
        latency: Duration::from_secs(5),
        ..Behaviour::default()
    };
    world.behave("v1", slow);
    world.behave("v2", Behaviour::listening_after(Duration::from_secs(1)));
    world.healthy("web", content("v1"), 2).await;
    world.settled("web").await;

    let accepted = world.deploy("web", content("v2"), 2).await;
    let rolls_out = || {
        let phase = world.releases("web").pop()?.status.phase;
        (phase == ReleasePhase::RollingOut).then_some(())
    };
    world.until("release 2 rolls out", rolls_out).await;
    let ingress = world.ingress.clone();
    let request = tokio::spawn(async move { ingress.request("web.localhost", "/").await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    world.clock.step(BACK);
    let operation = world.ended(&accepted).await;
    assert_eq!(
        operation.status.state,
        OperationState::Succeeded,
        "{}",
        operation.status.message
    );
    let drains = || {
        let application = world.application("web")?;
        (!application.status.draining.is_empty()).then_some(())
    };
    world.until("release 1 drains", drains).await;
    world.clock.step(BACK);
    let answer = request.await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "1 /"));
    world.settled("web").await;
    assert_eq!(world.counts("web").await, BTreeMap::from([(2, 2)]));
}

/// A day and ten years, in seconds, forth and back.
const LEAPS: [i64; 4] = [86_400, -86_400, 315_576_000, -315_576_000];

/// The instances of `web`, and the releases that are known.
async fn what_runs(world: &World) -> (Vec<InstanceId>, Vec<u64>) {
    let workload = world.workload("web", "web").await.unwrap();
    let ids = workload.instances.into_iter().map(|instance| instance.id);
    let releases = world.releases("web").into_iter();
    let mut versions: Vec<_> = releases.map(|release| release.spec.version).collect();
    versions.sort_unstable();
    (ids.collect(), versions)
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_leaps_restarts_nothing_and_removes_nothing() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 2).await;
    world.healthy("web", content("v2"), 2).await;
    for leap in LEAPS {
        world.settled("web").await;
        let before = what_runs(&world).await;
        world.clock.step(leap);
        tokio::time::sleep(Duration::from_secs(900)).await;
        assert_eq!(what_runs(&world).await, before, "after a leap of {leap} s");
        let answer = world.ingress.request("web.localhost", "/").await;
        assert_eq!(answer.status, 200);
        world
            .healthy("web", content(&format!("after {leap}")), 2)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_leaps_during_a_rollout_leaves_one_release_or_the_other_and_nothing_stuck() {
    let world = World::new().await;
    world.healthy("web", content("v0"), 2).await;
    for (number, leap) in (1..).zip(LEAPS) {
        let (slow, after) = (format!("slow {number}"), format!("after {number}"));
        world.behave(&slow, Behaviour::listening_after(Duration::from_secs(5)));
        let begun = Instant::now();
        let accepted = world.deploy("web", content(&slow), 2).await;
        let rolls_out = || {
            let phase = world.releases("web").pop()?.status.phase;
            (phase == ReleasePhase::RollingOut).then_some(())
        };
        world.until("it rolls out", rolls_out).await;
        world.clock.step(leap);
        let operation = world.ended(&accepted).await;
        assert!(begun.elapsed() < Duration::from_secs(300), "it is stuck");
        let succeeded = operation.status.state == OperationState::Succeeded;
        // A leap back is no reason to give up.
        assert!(succeeded || leap > 0, "{}", operation.status.message);
        let begun = Instant::now();
        world.healthy("web", content(&after), 2).await;
        world.settled("web").await;
        assert!(begun.elapsed() < Duration::from_secs(300), "it is stuck");
        let counts = world.counts("web").await;
        assert_eq!(counts.values().collect::<Vec<_>>(), [&2], "{counts:?}");
    }
}

/// Says whether a question makes the host claim of an application.
fn claims(question: &Question) -> bool {
    matches!(question, Question::Put(object) if object.kind == Kind::HostClaim)
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_delays_no_retry() {
    let world = World::new().await;
    let tries = Arc::new(AtomicU32::new(0));
    let (clock, asked) = (world.clock.clone(), tries.clone());
    world.guard.set(move |question| {
        let number = match claims(&question) {
            true => asked.fetch_add(1, Ordering::Relaxed) + 1,
            false => 0,
        };
        let clock = clock.clone();
        async move {
            if !(1..=4).contains(&number) {
                return Ok(());
            }
            if number == 4 {
                // After the run its wait begins, and nothing else wakes it; then the clock is set.
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    clock.step(BACK);
                });
            }
            Err(Error::unavailable("the store is away"))
        }
    });
    let begun = Instant::now();
    world.healthy("web", content("v1"), 1).await;
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    assert_eq!(tries.load(Ordering::Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn a_wake_during_a_failing_run_does_not_wait_for_the_backoff() {
    /// So many failures make a backoff of a minute.
    const FAILURES: u32 = 12;
    let world = World::new().await;
    let tries = Arc::new(AtomicU32::new(0));
    let (platform, asked) = (world.platform.clone(), tries.clone());
    let last = Arc::new(std::sync::Mutex::new(None));
    let failed = last.clone();
    world.guard.set(move |question| {
        let number = match claims(&question) {
            true => asked.fetch_add(1, Ordering::Relaxed) + 1,
            false => 0,
        };
        let (platform, failed) = (platform.clone(), failed.clone());
        async move {
            if number == FAILURES {
                let counts = BTreeMap::from([(name("web"), 2)]);
                platform.scale(&key("web"), counts).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
                *failed.lock().unwrap() = Some(Instant::now());
            }
            match number {
                1..=FAILURES => Err(Error::unavailable("the store is away")),
                _ => Ok(()),
            }
        }
    });
    world.healthy("web", content("v1"), 1).await;
    let waited = last.lock().unwrap().unwrap().elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    assert_eq!(tries.load(Ordering::Relaxed), FAILURES + 1);
}
