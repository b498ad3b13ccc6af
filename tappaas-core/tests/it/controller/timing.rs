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
