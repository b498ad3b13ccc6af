use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const BACKOFF_MS_MIN: u64 = 100;
const BACKOFF_MS_MAX: u64 = 10_000;

/// Whether an endpoint took the last connections offered. One that refused is passed over for a time that doubles with each refusal.
#[derive(Debug, Default)]
pub(crate) struct Health {
    refusals: AtomicU32,
    retry_at_ms: AtomicU64,
}

impl Health {
    pub(crate) fn ejected(&self, now_ms: u64) -> bool {
        self.refusals.load(Relaxed) > 0 && now_ms < self.retry_at_ms.load(Relaxed)
    }

    /// Whether the last connection offered was refused.
    pub(crate) fn failing(&self) -> bool {
        self.refusals.load(Relaxed) > 0
    }

    /// An endpoint whose time is over is offered one request; the others go on passing it over until that one is back.
    pub(crate) fn probe(&self, now_ms: u64) {
        let refusals = self.refusals.load(Relaxed);
        if refusals > 0 {
            self.retry_at_ms.store(now_ms + backoff(refusals), Relaxed);
        }
    }

    pub(crate) fn refused(&self, now_ms: u64) {
        let refusals = self.refusals.fetch_add(1, Relaxed).saturating_add(1);
        self.retry_at_ms.store(now_ms + backoff(refusals), Relaxed);
    }

    pub(crate) fn accepted(&self) {
        if self.refusals.load(Relaxed) > 0 {
            self.refusals.store(0, Relaxed);
        }
    }
}

fn backoff(refusals: u32) -> u64 {
    let doublings = refusals.saturating_sub(1).min(10);
    (BACKOFF_MS_MIN << doublings).min(BACKOFF_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_double_the_time_out_of_service_up_to_a_bound() {
        let health = Health::default();
        assert!(!health.ejected(0));
        health.refused(1_000);
        assert!(health.ejected(1_099) && !health.ejected(1_100));
        health.refused(1_100);
        assert!(health.ejected(1_299) && !health.ejected(1_300));
        for _ in 0..100 {
            health.refused(5_000);
        }
        assert!(health.ejected(14_999) && !health.ejected(15_000));
        health.accepted();
        assert!(!health.ejected(5_001));
    }

    #[test]
    fn one_request_probes_an_endpoint_whose_time_is_over() {
        let health = Health::default();
        health.refused(0);
        assert!(!health.ejected(100));
        health.probe(100);
        assert!(health.ejected(101));
    }
}
