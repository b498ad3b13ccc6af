use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream::BoxStream};
use tokio::task::JoinSet;

use super::queue::Queue;
use crate::{Clock, Error, ErrorKind, Key, Result};

/// Brings one object nearer to what is wanted of it. Remembers nothing between runs.
#[async_trait]
pub(super) trait Reconcile: fmt::Debug + Send + Sync + 'static {
    /// The controller's name in logs.
    fn name(&self) -> &'static str;

    /// Reads, plans, executes. `Some` asks to be run again after a while even if nothing changes.
    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>>;

    /// Names what to look at, as it changes.
    async fn wakes(&self) -> Result<BoxStream<'static, Key>>;

    /// Names everything to look at, from time to time, should a wake have been lost.
    fn all(&self) -> Vec<Key>;
}

/// How a controller is driven.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Keys worked on at the same time.
    pub(super) concurrency: usize,
    /// Time between looks at everything.
    pub(super) resync: Duration,
}

/// Runs a controller for as long as it is polled. A failing or panicking key delays itself alone.
pub(super) async fn drive(reconciler: Arc<dyn Reconcile>, clock: Arc<dyn Clock>, pace: Pace) {
    let queue = Arc::new(Queue::new());
    let mut tasks = JoinSet::new();
    for _ in 0..pace.concurrency {
        tasks.spawn(work(reconciler.clone(), queue.clone()));
    }
    tasks.spawn({
        let queue = queue.clone();
        async move { queue.run_timer().await }
    });
    tasks.spawn(follow(reconciler.clone(), clock.clone(), queue.clone()));
    loop {
        reconciler.all().into_iter().for_each(|key| queue.add(key));
        clock.sleep(pace.resync).await;
    }
}

async fn work(reconciler: Arc<dyn Reconcile>, queue: Arc<Queue<Key>>) {
    loop {
        let key = queue.next().await;
        let run = std::panic::AssertUnwindSafe(reconciler.reconcile(&key))
            .catch_unwind()
            .await;
        let outcome = run.unwrap_or_else(|_| Err(Error::internal("the controller panicked")));
        match outcome {
            Ok(next) => {
                queue.done(key.clone(), false);
                if let Some(wait) = next {
                    queue.add_after(key, wait);
                }
            }
            Err(error) => {
                report(reconciler.name(), &key, &error);
                queue.done(key, true);
            }
        }
    }
}

fn report(controller: &str, key: &Key, error: &Error) {
    match error.kind() {
        // Somebody else was quicker: the next run sees what they did.
        ErrorKind::Conflict => tracing::debug!(controller, %key, ?error, "planned on old news"),
        ErrorKind::Unavailable => tracing::info!(controller, %key, ?error, "will try again"),
        _ => tracing::warn!(controller, %key, ?error, "cannot reconcile"),
    }
}

/// Feeds the queue from the controller's wakes; a stream that ends is opened again.
async fn follow(reconciler: Arc<dyn Reconcile>, clock: Arc<dyn Clock>, queue: Arc<Queue<Key>>) {
    loop {
        match reconciler.wakes().await {
            Ok(mut wakes) => {
                // What changed before it was listened to.
                reconciler.all().into_iter().for_each(|key| queue.add(key));
                while let Some(key) = wakes.next().await {
                    queue.add(key);
                }
            }
            Err(error) => tracing::warn!(
                controller = reconciler.name(),
                ?error,
                "cannot follow changes"
            ),
        }
        clock.sleep(Duration::from_millis(500)).await;
    }
}
