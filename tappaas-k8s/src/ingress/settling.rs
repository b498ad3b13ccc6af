use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// With more objects than this all wait once more.
const KNOWN_MAX: usize = 100_000;

/// Since when objects have been as they are.
#[derive(Debug)]
pub(super) struct Settling {
    time: Duration,
    since: Mutex<HashMap<String, (i64, Instant)>>,
}

impl Settling {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            time,
            since: Mutex::default(),
        }
    }

    /// How long objects take.
    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// How long it still takes until an object that is accepted in this generation is taken for served; `None` if it is.
    pub(super) fn left(&self, uid: &str, generation: i64) -> Option<Duration> {
        let now = Instant::now();
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.len() >= KNOWN_MAX && !since.contains_key(uid) {
            since.clear();
        }
        let seen = since.entry(uid.to_owned()).or_insert((generation, now));
        if seen.0 != generation {
            *seen = (generation, now);
        }
        let left = self.time.saturating_sub(now - seen.1);
        (!left.is_zero()).then_some(left)
    }

    /// Forgets an object that is not accepted any more, or gone.
    pub(super) fn forget(&self, uid: &str) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_generation_settles_by_itself() {
        let settling = Settling::new(Duration::from_secs(2));
        assert_eq!(settling.left("a", 1), Some(Duration::from_secs(2)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(settling.left("a", 1), Some(Duration::from_secs(1)));
        assert_eq!(settling.left("b", 1), Some(Duration::from_secs(2)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(settling.left("a", 1), None);
        assert_eq!(settling.left("a", 2), Some(Duration::from_secs(2)));
        settling.forget("b");
        assert_eq!(settling.left("b", 1), Some(Duration::from_secs(2)));
    }
}
