use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use serde_json::Value;
use tokio::sync::{broadcast, watch};

use crate::{Clock, Event, Key, Kind, ListRequest, Object, Result, Revision, Scope, Store};

/// How many changed keys a slow subscriber may be behind before it is told to look at everything again.
const CHANGES_MAX: usize = 4096;

/// Everything of one kind, kept current by a watch.
#[derive(Debug)]
pub(super) struct Cache {
    kind: Kind,
    objects: Mutex<Objects>,
    /// `None` until the first listing is in.
    revision: watch::Sender<Option<Revision>>,
    changes: broadcast::Sender<Change>,
}

/// The objects, and which of them name an application.
#[derive(Debug, Default)]
struct Objects {
    by_key: BTreeMap<Key, Arc<Object>>,
    by_reference: BTreeMap<(Scope, Reference), BTreeSet<Key>>,
}

/// How an object may name an application of its scope.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Reference {
    /// It belongs to it: `spec.application`.
    Of(String),
    /// It is bound to it: `spec.content.bindings.*.application`.
    BoundTo(String),
}

impl Objects {
    fn insert(&mut self, key: Key, object: Arc<Object>) {
        self.remove(&key);
        for reference in references(&object) {
            let place = (key.scope.clone(), reference);
            self.by_reference
                .entry(place)
                .or_default()
                .insert(key.clone());
        }
        self.by_key.insert(key, object);
    }

    fn remove(&mut self, key: &Key) {
        let Some(old) = self.by_key.remove(key) else {
            return;
        };
        for reference in references(&old) {
            let place = (key.scope.clone(), reference);
            if let Some(keys) = self.by_reference.get_mut(&place) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_reference.remove(&place);
                }
            }
        }
    }
}

fn references(object: &Object) -> Vec<Reference> {
    let name = |value: &Value| value.get("application")?.as_str().map(str::to_owned);
    let bindings = object
        .spec
        .pointer("/content/bindings")
        .and_then(Value::as_object);
    let bound = bindings
        .into_iter()
        .flat_map(|bindings| bindings.values())
        .filter_map(name);
    name(&object.spec)
        .map(Reference::Of)
        .into_iter()
        .chain(bound.map(Reference::BoundTo))
        .collect()
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
        self.lock().by_key.get(key).cloned()
    }

    pub(super) fn list(&self, scope: &Scope) -> Vec<Arc<Object>> {
        let objects = self.lock();
        let from = Key::new(self.kind, scope.clone(), "");
        let inside = objects
            .by_key
            .range(from..)
            .take_while(|(key, _)| scope.contains(&key.scope));
        inside.map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn naming(&self, scope: &Scope, reference: Reference) -> Vec<Arc<Object>> {
        let objects = self.lock();
        let keys = objects
            .by_reference
            .get(&(scope.clone(), reference))
            .into_iter()
            .flatten();
        keys.filter_map(|key| objects.by_key.get(key).cloned())
            .collect()
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
        let mut objects = Objects::default();
        loop {
            let page = store.list(&request).await?;
            page.objects
                .into_iter()
                .for_each(|object| objects.insert(object.key(), Arc::new(object)));
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
