use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use tokio::sync::{broadcast, watch};

use crate::{Clock, Event, Key, Kind, ListRequest, Object, Result, Revision, Scope, Store};

/// How many changed keys a slow subscriber may be behind before it is told to look at everything again.
const CHANGES_MAX: usize = 4096;

/// Everything of one kind, kept current by a watch.
#[derive(Debug)]
pub(super) struct Cache {
    kind: Kind,
    objects: Mutex<BTreeMap<Key, Arc<Object>>>,
    /// `None` until the first listing is in.
    revision: watch::Sender<Option<Revision>>,
    changes: broadcast::Sender<Change>,
}

/// What a subscriber of a cache is told.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// This object changed or is gone.
    Key(Key),
    /// Anything may have changed.
    All,
}

impl Cache {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            objects: Mutex::default(),
            revision: watch::Sender::new(None),
            changes: broadcast::Sender::new(CHANGES_MAX),
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.lock().get(key).cloned()
    }

    pub(super) fn list(&self, scope: &Scope) -> Vec<Arc<Object>> {
        let objects = self.lock();
        let from = Key::new(self.kind, scope.clone(), "");
        let inside = objects
            .range(from..)
            .take_while(|(key, _)| scope.contains(&key.scope));
        inside.map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    pub(super) fn synced(&self) -> bool {
        self.revision.borrow().is_some()
    }

    /// Waits until everything up to `revision` is in the cache.
    pub(super) async fn reach(&self, revision: Revision) {
        let mut seen = self.revision.subscribe();
        // The sender lives as long as the cache, so waiting cannot fail.
        let _ = seen
            .wait_for(|seen| seen.is_some_and(|seen| seen >= revision))
            .await;
    }

    /// Feeds the cache until it is dropped; a failure is waited out.
    pub(super) async fn run(&self, store: &dyn Store, clock: &dyn Clock) {
        let mut pause = Duration::from_millis(50);
        loop {
            match self.follow(store).await {
                Ok(()) => pause = Duration::from_millis(50),
                Err(error) => {
                    tracing::warn!(kind = %self.kind, ?error, "cannot follow the store; trying again");
                    clock.sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        }
    }

    /// Lists, then follows the changes until the watch ends.
    async fn follow(&self, store: &dyn Store) -> Result<()> {
        let revision = self.fill(store).await?;
        let mut events = store.watch(self.kind, revision).await?;
        while let Some(event) = events.next().await {
            match event {
                Event::Applied(object) => self.apply(object, false),
                Event::Deleted(object) => self.apply(object, true),
                Event::Bookmark(revision) => self.advance(revision),
                Event::Expired => break,
            }
        }
        Ok(())
    }

    async fn fill(&self, store: &dyn Store) -> Result<Revision> {
        let mut request = ListRequest::new(self.kind, Scope::cluster());
        let mut objects = BTreeMap::new();
        loop {
            let page = store.list(&request).await?;
            objects.extend(
                page.objects
                    .into_iter()
                    .map(|object| (object.key(), Arc::new(object))),
            );
            request.after = page.next;
            if request.after.is_none() {
                *self.lock() = objects;
                self.advance(page.revision);
                let _ = self.changes.send(Change::All);
                return Ok(page.revision);
            }
        }
    }

    fn apply(&self, object: Object, gone: bool) {
        let (key, revision) = (object.key(), object.metadata.revision);
        if gone {
            self.lock().remove(&key);
        } else {
            self.lock().insert(key.clone(), Arc::new(object));
        }
        self.advance(revision);
        let _ = self.changes.send(Change::Key(key));
    }

    fn advance(&self, revision: Revision) {
        self.revision
            .send_modify(|seen| *seen = Some(seen.map_or(revision, |seen| seen.max(revision))));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Arc<Object>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
