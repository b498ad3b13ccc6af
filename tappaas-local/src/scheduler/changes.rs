use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures::stream::{self, BoxStream, StreamExt as _};
use tappaas_core::backend::WorkloadId;
use tokio::sync::Notify;

/// Names workloads that changed to whoever watches. For a slow watcher a name waits once, however often it changed.
#[derive(Debug, Default)]
pub(super) struct Changes(Mutex<Vec<Weak<Watcher>>>);

#[derive(Debug, Default)]
struct Watcher {
    names: Mutex<BTreeSet<WorkloadId>>,
    some: Notify,
}

impl Changes {
    pub(super) fn tell(&self, name: &WorkloadId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|watcher| {
                let Some(watcher) = watcher.upgrade() else {
                    return false;
                };
                watcher
                    .names
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(name.clone());
                watcher.some.notify_one();
                true
            });
    }

    /// Names every change from now on, until the stream is dropped.
    pub(super) fn watch(&self) -> BoxStream<'static, WorkloadId> {
        let watcher = Arc::new(Watcher::default());
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&watcher));
        let names = stream::unfold(watcher, |watcher| async move {
            loop {
                let first = watcher
                    .names
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_first();
                if let Some(name) = first {
                    return Some((name, watcher));
                }
                watcher.some.notified().await;
            }
        });
        names.boxed()
    }
}
