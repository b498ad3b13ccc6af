use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, Weak},
};

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::Notify;

use super::lock::lock;

/// Names what changed to whoever watches. A slow watcher misses nothing: a name waits for it once, however often it changed.
#[derive(Debug)]
pub(super) struct Changes<T>(Mutex<Vec<Weak<Watcher<T>>>>);

#[derive(Debug)]
struct Watcher<T> {
    names: Mutex<BTreeSet<T>>,
    some: Notify,
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Ord + Send + 'static> Changes<T> {
    pub(super) fn tell(&self, name: &T) {
        lock(&self.0).retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else {
                return false;
            };
            lock(&watcher.names).insert(name.clone());
            watcher.some.notify_one();
            true
        });
    }

    /// Names every change from now on, until the stream is dropped.
    pub(super) fn watch(&self) -> BoxStream<'static, T> {
        let watcher = Arc::new(Watcher {
            names: Mutex::default(),
            some: Notify::new(),
        });
        lock(&self.0).push(Arc::downgrade(&watcher));
        let names = stream::unfold(watcher, |watcher| async move {
            loop {
                let first = lock(&watcher.names).pop_first();
                if let Some(name) = first {
                    return Some((name, watcher));
                }
                watcher.some.notified().await;
            }
        });
        names.boxed()
    }
}
