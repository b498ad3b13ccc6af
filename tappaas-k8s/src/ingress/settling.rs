use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// With more objects than this all are forgotten: those that are not old wait once more.
const KNOWN_MAX: usize = 100_000;
/// When an object that has just been written is looked at again: a Gateway's controller is hardly quicker.
const LOOK_MIN: Duration = Duration::from_millis(250);

/// Since when objects have been as they are.
#[derive(Debug)]
pub(super) struct Settling {
    time: Duration,
    /// Of each generation; `None` if that was before this process.
    since: Mutex<HashMap<String, (i64, Option<Instant>)>>,
    /// Since when objects are not accepted.
    open: Mutex<HashMap<String, Instant>>,
}

impl Settling {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            time,
            since: Mutex::default(),
            open: Mutex::default(),
        }
    }

    /// How long objects take.
    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// How long it still takes until an object that is accepted in this generation is taken for served; `None` if it is, also if nothing is
    /// known of it but that nobody wrote to it lately.
    pub(super) fn left(&self, uid: &str, generation: i64, old: bool) -> Option<Duration> {
        let now = Instant::now();
        let waited = lock(&self.open).remove(uid).is_some();
        let mut since = lock(&self.since);
        if since.len() >= KNOWN_MAX && !since.contains_key(uid) {
            since.clear();
        }
        let first = (generation, (!old || waited).then_some(now));
        let seen = since.entry(uid.to_owned()).or_insert(first);
        if seen.0 != generation {
            *seen = (generation, Some(now));
        }
        let left = self.time.saturating_sub(now - seen.1?);
        (!left.is_zero()).then_some(left)
    }

    /// When to look again at an object that is not accepted, or not any more: the longer it has not been, the later.
    pub(super) fn open(&self, uid: &str) -> Duration {
        let now = Instant::now();
        lock(&self.since).remove(uid);
        let mut open = lock(&self.open);
        if open.len() >= KNOWN_MAX && !open.contains_key(uid) {
            open.clear();
        }
        let first = *open.entry(uid.to_owned()).or_insert(now);
        (now - first).max(LOOK_MIN)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_generation_settles_by_itself() {
        let settling = Settling::new(Duration::from_secs(2));
        assert_eq!(settling.left("a", 1, false), Some(Duration::from_secs(2)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(settling.left("a", 1, false), Some(Duration::from_secs(1)));
        assert_eq!(settling.left("b", 1, false), Some(Duration::from_secs(2)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(settling.left("a", 1, false), None);
        assert_eq!(settling.left("a", 2, false), Some(Duration::from_secs(2)));
        assert_eq!(settling.left("a", 2, true), Some(Duration::from_secs(2)));
        settling.open("b");
        assert_eq!(settling.left("b", 1, false), Some(Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_old_has_settled_unless_it_was_accepted_only_now() {
        let settling = Settling::new(Duration::from_secs(2));
        assert_eq!(settling.left("a", 1, true), None);
        assert_eq!(settling.left("a", 1, false), None);
        assert_eq!(settling.left("a", 2, true), Some(Duration::from_secs(2)));
        settling.open("b");
        assert_eq!(settling.left("b", 1, true), Some(Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_never_accepted_is_looked_at_ever_more_seldom() {
        let settling = Settling::new(Duration::from_secs(2));
        for after in [250, 250, 500, 1000, 2000] {
            let after = Duration::from_millis(after);
            assert_eq!(settling.open("a"), after);
            tokio::time::advance(after).await;
        }
        settling.left("a", 1, false);
        assert_eq!(settling.open("a"), LOOK_MIN);
    }
}
