use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::Timestamp;

/// A clock that follows tokio's time, from a fixed beginning: with paused time it is wholly in the hands of a test.
#[derive(Clone, Debug)]
pub struct Clock {
    epoch: Timestamp,
    started: Instant,
}

impl Clock {
    /// Where every such clock begins: 2026-01-01T00:00:00Z.
    pub const EPOCH_SECONDS: i64 = 1_767_225_600;

    /// Starts a clock.
    pub fn new() -> Self {
        Self {
            epoch: Timestamp::constant(Self::EPOCH_SECONDS, 0),
            started: Instant::now(),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl crate::Clock for Clock {
    fn now(&self) -> Timestamp {
        let passed = Instant::now().duration_since(self.started);
        self.epoch.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Identifiers `id-1`, `id-2`, and so on.
#[derive(Debug, Default)]
pub struct Ids(AtomicU64);

impl Ids {
    /// Starts with `id-1`.
    pub fn new() -> Self {
        Self::default()
    }
}

impl crate::Ids for Ids {
    fn unique(&self) -> String {
        format!("id-{}", self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
