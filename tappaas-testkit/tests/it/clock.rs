use std::time::Duration;

use tappaas_core::Clock as _;
use tappaas_testkit::ManualClock;

#[tokio::test]
async fn a_sleeper_wakes_once_the_clock_was_moved_far_enough() {
    let clock = ManualClock::new();
    let begun = clock.now();
    let sleeping = tokio::spawn({
        let clock = clock.clone();
        async move { clock.sleep(Duration::from_secs(10)).await }
    });
    clock.asleep(1).await;
    clock.advance(Duration::from_secs(9));
    tokio::task::yield_now().await;
    assert!(!sleeping.is_finished());
    clock.advance(Duration::from_secs(1));
    sleeping.await.unwrap();
    assert_eq!(
        clock.now().duration_since(begun).as_secs(),
        10,
        "only the test moves the clock"
    );
    clock.sleep(Duration::ZERO).await;
}
