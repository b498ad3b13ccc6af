use std::time::Duration;

use async_trait::async_trait;
use tappaas_core::{Clock, Timestamp, memory};
use tokio::sync::watch;

/// A clock that stands still until it is moved. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: watch::Sender<Timestamp>,
    asleep: watch::Sender<usize>,
}

impl ManualClock {
    /// Creates a clock that stands where [`memory::Clock`] begins.
    pub fn new() -> Self {
        Self::at(Timestamp::constant(memory::Clock::EPOCH_SECONDS, 0))
    }

    /// Creates a clock that stands at this time.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now: watch::Sender::new(now),
            asleep: watch::Sender::new(0),
        }
    }

    /// Moves the clock forward, and wakes whoever has slept long enough.
    pub fn advance(&self, duration: Duration) {
        self.now.send_modify(|now| *now = later(*now, duration));
    }

    /// Waits until so many sleep, so that none misses the next [`ManualClock::advance`].
    pub async fn asleep(&self, count: usize) {
        let mut asleep = self.asleep.subscribe();
        // The sender lives in `self`.
        let _reached = asleep.wait_for(|asleep| *asleep >= count).await;
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    async fn sleep(&self, duration: Duration) {
        let mut now = self.now.subscribe();
        let end = later(*now.borrow_and_update(), duration);
        let _asleep = Asleep::new(&self.asleep);
        let _passed = now.wait_for(|now| *now >= end).await;
    }
}

/// Counts one sleeper, also one whose sleep is given up.
struct Asleep<'a>(&'a watch::Sender<usize>);

impl<'a> Asleep<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn later(time: Timestamp, duration: Duration) -> Timestamp {
    time.saturating_add(duration).unwrap_or(Timestamp::MAX)
}
