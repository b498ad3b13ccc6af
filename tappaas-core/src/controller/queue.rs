use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fmt::Debug,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::Digest;

/// The first and the longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));

/// The longest wait of any key.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Keys that wait to be worked on: each once, none by two workers at a time.
///
/// Bounded by the number of keys there are, since each is kept once.
#[derive(Debug)]
pub(super) struct Queue<K> {
    state: Mutex<State<K>>,
    ready: Notify,
    timer: Notify,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    running: HashSet<K>,
    /// Asked for again while running.
    again: HashSet<K>,
    due: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
}

impl<K: Clone + Debug + Eq + Hash> Queue<K> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                queued: HashSet::new(),
                running: HashSet::new(),
                again: HashSet::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
            }),
            ready: Notify::new(),
            timer: Notify::new(),
        }
    }

    /// Asks for a key to be worked on now.
    pub(super) fn add(&self, key: K) {
        let mut state = self.lock();
        state.due.remove(&key);
        if state.running.contains(&key) {
            state.again.insert(key);
        } else if state.queued.insert(key.clone()) {
            state.ready.push_back(key);
            self.ready.notify_one();
        }
    }

    /// Asks for a key to be worked on after a while, or earlier if that was asked for.
    pub(super) fn add_after(&self, key: K, wait: Duration) {
        // Not by the wall clock, which may be set.
        let due = Instant::now() + wait.min(WAIT_MAX);
        let mut state = self.lock();
        if state.queued.contains(&key) {
            return;
        }
        let earliest = state.due.entry(key).or_insert(due);
        *earliest = (*earliest).min(due);
        self.timer.notify_one();
    }

    /// Waits for a key and takes it. [`Queue::done`] must follow.
    pub(super) async fn next(&self) -> K {
        loop {
            if let Some(key) = self.take() {
                return key;
            }
            self.ready.notified().await;
        }
    }

    /// Gives a key back. After a failure it comes again later and later, but for news: that waits for the shortest time only.
    pub(super) fn done(&self, key: K, failed: bool) {
        let mut state = self.lock();
        state.running.remove(&key);
        let again = state.again.remove(&key);
        let failures = if failed {
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            *failures
        } else {
            state.failures.remove(&key);
            0
        };
        drop(state);
        match (failed, again) {
            (false, true) => self.add(key),
            // A failing run may itself be what made the news.
            (true, true) => self.add_after(key, BACKOFF.0),
            (true, false) => self.add_after(key.clone(), backoff(&key, failures)),
            (false, false) => {}
        }
    }

    /// Moves keys whose time has come, for as long as it is polled.
    pub(super) async fn run_timer(&self) {
        loop {
            match self.promote() {
                Some(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.timer.notified() => {}
                },
                None => self.timer.notified().await,
            }
        }
    }

    fn take(&self) -> Option<K> {
        let mut state = self.lock();
        let key = state.ready.pop_front()?;
        state.queued.remove(&key);
        state.running.insert(key.clone());
        // A permit is kept for one waiter alone; wake the next if there is more.
        if !state.ready.is_empty() {
            self.ready.notify_one();
        }
        Some(key)
    }

    /// Adds every due key, and returns when the next one is.
    fn promote(&self) -> Option<Instant> {
        let now = Instant::now();
        let due: BTreeMap<Instant, Vec<K>> = {
            let state = self.lock();
            state
                .due
                .iter()
                .fold(BTreeMap::new(), |mut due, (key, at)| {
                    due.entry(*at).or_insert_with(Vec::new).push(key.clone());
                    due
                })
        };
        for (at, keys) in due {
            if at > now {
                return Some(at);
            }
            keys.into_iter().for_each(|key| self.add(key));
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Doubles from failure to failure. The jitter comes from the key, so that runs repeat and keys still spread.
fn backoff(key: &impl Debug, failures: u32) -> Duration {
    let (first, longest) = BACKOFF;
    let wait = first
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(longest);
    let hash = Digest::of(format!("{key:?}{failures}"));
    let jitter = u32::from_str_radix(&hash.hex()[..4], 16).unwrap_or_default();
    wait.mul_f64(0.75 + f64::from(jitter) / f64::from(u16::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_a_bound_and_spreads() {
        for (failures, about) in [(1, 0.2), (2, 0.4), (5, 3.2), (30, 60.0)] {
            let wait = backoff(&"key", failures).as_secs_f64();
            assert!(
                (about * 0.75..=about * 1.25).contains(&wait),
                "{failures}: {wait}"
            );
        }
        assert_ne!(backoff(&"a", 1), backoff(&"b", 1));
    }
}
