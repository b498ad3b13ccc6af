use std::{collections::HashMap, sync::Arc, time::Duration};

use tappaas_core::backend::{RouteId, Signal};
use tokio::time::{Instant, sleep};

use crate::plane::{Plane, Snapshot};

const NEWS_AFTER: Duration = Duration::from_millis(20);

/// Turns counters into signals: each sample is about the time since the last one.
#[derive(Debug)]
pub(crate) struct Sampler {
    last: HashMap<Arc<RouteId>, Snapshot>,
    at: Instant,
}

impl Sampler {
    /// Starts a window.
    pub(crate) fn new(plane: &Plane) -> Self {
        let mut sampler = Self {
            last: HashMap::new(),
            at: Instant::now(),
        };
        sampler.sample(plane);
        sampler
    }

    /// Returns when the window is over, or soon after a request has begun to wait for an endpoint.
    pub(crate) async fn window(plane: &Plane, window: Duration) {
        tokio::select! {
            () = sleep(window) => {}
            // Soon, not at once: a thousand requests that wait are one piece of news.
            () = plane.demand.notified() => sleep(NEWS_AFTER).await,
        }
    }

    /// Ends the window and starts the next. Routes without traffic are left out.
    pub(crate) fn sample(&mut self, plane: &Plane) -> Vec<Signal> {
        let window = self.at.elapsed();
        self.at = Instant::now();
        let now: HashMap<_, _> = {
            let router = plane.router();
            router
                .routes
                .iter()
                .map(|(id, route)| (id.clone(), route.stats.snapshot()))
                .collect()
        };
        let last = std::mem::replace(&mut self.last, now);
        let none = Snapshot::default();
        let signals = self
            .last
            .iter()
            .map(|(id, now)| signal(id, &now.since(last.get(id).unwrap_or(&none)), window));
        signals
            .filter(|signal| signal.requests + signal.in_flight + signal.waiting > 0)
            .collect()
    }
}

fn signal(id: &RouteId, figures: &Snapshot, window: Duration) -> Signal {
    Signal {
        id: id.clone(),
        window,
        requests: figures.requests(),
        errors: figures.errors(),
        latency_p50: figures.percentile(50),
        latency_p99: figures.percentile(99),
        in_flight: figures.in_flight,
        waiting: figures.waiting,
    }
}
