use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

const BUCKETS: usize = 36;

/// Upper bounds of the latency buckets in microseconds, each half as long again as the one before: 100 µs to 145 s.
pub(crate) const BOUNDS_US: [u64; BUCKETS - 1] = bounds();

const fn bounds() -> [u64; BUCKETS - 1] {
    let mut bounds = [100; BUCKETS - 1];
    let mut i = 1;
    while i < bounds.len() {
        bounds[i] = bounds[i - 1] * 3 / 2;
        i += 1;
    }
    bounds
}

/// What a route has done since the edge started. Only ever counts up, `in_flight` and `waiting` apart.
#[derive(Debug)]
pub(crate) struct RouteStats {
    /// Answers by class: 1xx to 5xx.
    classes: [AtomicU64; 5],
    latency: [AtomicU64; BUCKETS],
    latency_sum_us: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) waiting: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) abandoned: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    /// Draws of a target, so that weights are met without randomness.
    pub(crate) draws: AtomicU64,
}

impl Default for RouteStats {
    fn default() -> Self {
        Self {
            classes: Default::default(),
            latency: [const { AtomicU64::new(0) }; BUCKETS],
            latency_sum_us: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            draws: AtomicU64::new(0),
        }
    }
}

impl RouteStats {
    /// Counts the head of an answer.
    pub(crate) fn answered(&self, status: u16, after: Duration) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.classes[class].fetch_add(1, Relaxed);
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.latency[BOUNDS_US.partition_point(|bound| *bound < us)].fetch_add(1, Relaxed);
        self.latency_sum_us.fetch_add(us, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Snapshot {
            classes: self.classes.each_ref().map(read),
            latency: self.latency.each_ref().map(read),
            latency_sum_us: read(&self.latency_sum_us),
            in_flight: read(&self.in_flight),
            waiting: read(&self.waiting),
            retries: read(&self.retries),
            abandoned: read(&self.abandoned),
            sent_bytes: read(&self.sent_bytes),
        }
    }
}

/// The counters of a route at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) classes: [u64; 5],
    pub(crate) latency: [u64; BUCKETS],
    pub(crate) latency_sum_us: u64,
    pub(crate) in_flight: u64,
    pub(crate) waiting: u64,
    pub(crate) retries: u64,
    pub(crate) abandoned: u64,
    pub(crate) sent_bytes: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        RouteStats::default().snapshot()
    }
}

impl Snapshot {
    pub(crate) fn requests(&self) -> u64 {
        self.classes.iter().sum()
    }

    pub(crate) fn errors(&self) -> u64 {
        self.classes[4]
    }

    /// What was counted between `earlier` and this.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let less = |now: u64, then: u64| now.saturating_sub(then);
        Self {
            classes: std::array::from_fn(|i| less(self.classes[i], earlier.classes[i])),
            latency: std::array::from_fn(|i| less(self.latency[i], earlier.latency[i])),
            latency_sum_us: less(self.latency_sum_us, earlier.latency_sum_us),
            retries: less(self.retries, earlier.retries),
            abandoned: less(self.abandoned, earlier.abandoned),
            sent_bytes: less(self.sent_bytes, earlier.sent_bytes),
            ..*self
        }
    }

    /// The latency that `percent` of the answers stayed within, to the precision of the buckets.
    pub(crate) fn percentile(&self, percent: u64) -> Duration {
        let total: u64 = self.latency.iter().sum();
        let rank = (total * percent).div_ceil(100);
        let mut seen = 0;
        for (count, bound) in self.latency.iter().zip(BOUNDS_US) {
            seen += count;
            if seen >= rank && total > 0 {
                return Duration::from_micros(bound);
            }
        }
        let last = BOUNDS_US[BOUNDS_US.len() - 1];
        Duration::from_micros(if total == 0 { 0 } else { last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_from_the_window_alone() {
        let stats = RouteStats::default();
        for _ in 0..100 {
            stats.answered(200, Duration::from_secs(9));
        }
        let before = stats.snapshot();
        for _ in 0..98 {
            stats.answered(200, Duration::from_micros(90));
        }
        stats.answered(503, Duration::from_millis(1));
        stats.answered(503, Duration::from_millis(1));
        let window = stats.snapshot().since(&before);
        assert_eq!((window.requests(), window.errors()), (100, 2));
        assert_eq!(window.percentile(50), Duration::from_micros(100));
        let p99 = window.percentile(99);
        assert!(
            p99 >= Duration::from_millis(1) && p99 < Duration::from_millis(2),
            "{p99:?}"
        );
        assert_eq!(Snapshot::default().percentile(99), Duration::ZERO);
    }
}
