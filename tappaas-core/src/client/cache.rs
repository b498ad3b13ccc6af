use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use tokio::sync::{Notify, broadcast, watch};

use super::held::{Held, Reference};
use crate::{Clock, Event, Key, Kind, ListRequest, Object, Result, Revision, Scope, Store};

/// How many changed keys a slow subscriber may be behind before it is told to look at everything again.
const CHANGES_MAX: usize = 4096;

/// Objects per page of a listing. As values they take ten times the memory that they do as they are held.
const PAGE: usize = 100;

/// The time between the end of a watch and the next listing, doubled from failure to failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Everything of one kind, kept current by a watch.
#[derive(Debug)]
pub(super) struct Cache {
    kind: Kind,
    /// Time between listings, should the watch have left something out.
    relist: Duration,
    /// The watch did leave something out.
    doubted: Notify,
    objects: Mutex<Objects>,
    /// `None` until the first listing is in.
    revision: watch::Sender<Option<Revision>>,
    changes: broadcast::Sender<Change>,
}

/// The objects, and which of them name an application.
#[derive(Debug, Default)]
struct Objects {
    by_key: BTreeMap<Key, Arc<Held>>,
    /// With the names of the objects.
    by_reference: BTreeSet<(Scope, Reference, String)>,
}

impl Objects {
    fn insert(&mut self, mut key: Key, held: Arc<Held>) {
        self.remove(&key);
        if let Some(scope) = self.neighbouring_scope(&key) {
            key.scope = scope;
        }
        self.by_reference.extend(entries(&key, &held));
        self.by_key.insert(key, held);
    }

    /// The key's scope as another object has it already, so that they share it.
    fn neighbouring_scope(&self, key: &Key) -> Option<Scope> {
        let below = self.by_key.range(..key).next_back();
        let above = self.by_key.range(key..).next();
        let neighbours = below.into_iter().chain(above);
        let mut scopes = neighbours.map(|(neighbour, _)| &neighbour.scope);
        scopes.find(|scope| **scope == key.scope).cloned()
    }

    /// Puts others in their place, and says which are new, changed or gone.
    fn replace(&mut self, new: Self) -> Vec<Key> {
        let old = std::mem::replace(self, new);
        let same = |one: &Arc<Held>, other: Option<&Arc<Held>>| {
            other.is_some_and(|other| Arc::ptr_eq(one, other))
        };
        let news = self
            .by_key
            .iter()
            .filter(|(key, held)| !same(held, old.by_key.get(*key)));
        let gone = old
            .by_key
            .keys()
            .filter(|key| !self.by_key.contains_key(*key));
        news.map(|(key, _)| key).chain(gone).cloned().collect()
    }

    fn remove(&mut self, key: &Key) {
        if let Some(old) = self.by_key.remove(key) {
            for entry in entries(key, &old) {
                self.by_reference.remove(&entry);
            }
        }
    }
}

fn entries(key: &Key, held: &Held) -> impl Iterator<Item = (Scope, Reference, String)> {
    let references = held.references.iter().cloned();
    references.map(|reference| (key.scope.clone(), reference, key.name.clone()))
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
    pub(super) fn new(kind: Kind, relist: Duration) -> Self {
        Self {
            kind,
            relist,
            doubted: Notify::new(),
            objects: Mutex::default(),
            revision: watch::Sender::new(None),
            changes: broadcast::Sender::new(CHANGES_MAX),
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Held>> {
        self.lock().by_key.get(key).cloned()
    }

    pub(super) fn list(&self, scope: &Scope) -> Vec<Arc<Held>> {
        let objects = self.lock();
        let inside = self.inside(&objects, scope);
        inside.map(|(_, held)| held.clone()).collect()
    }

    pub(super) fn keys(&self, scope: &Scope) -> Vec<Key> {
        let objects = self.lock();
        let inside = self.inside(&objects, scope);
        inside.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn naming(&self, scope: &Scope, reference: &Reference) -> Vec<Arc<Held>> {
        let objects = self.lock();
        let from = (scope.clone(), reference.clone(), String::new());
        let names = objects
            .by_reference
            .range(from..)
            .take_while(|(in_scope, by, _)| (in_scope, by) == (scope, reference));
        let key = |name: &String| Key::new(self.kind, scope.clone(), name);
        names
            .filter_map(|(_, _, name)| objects.by_key.get(&key(name)).cloned())
            .collect()
    }

    fn inside<'a>(
        &self,
        objects: &'a Objects,
        scope: &'a Scope,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Held>)> + use<'a> {
        let from = Key::new(self.kind, scope.clone(), "");
        let following = objects.by_key.range(from..);
        following.take_while(|(key, _)| scope.contains(&key.scope))
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

    /// Lists again soon, unless the cache has an object as a write left it: then the watch left that out.
    pub(super) fn verify(&self, left: &Object, gone: bool) {
        let revision = left.metadata.revision;
        let held = self.get(&left.key()).map(|held| held.revision);
        let behind = match held {
            Some(held) => held < revision,
            None => !gone,
        };
        if behind {
            self.doubt();
        }
    }

    /// Lists again soon.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Feeds the cache until it is dropped; a failure is waited out.
    pub(super) async fn run(&self, store: &dyn Store, clock: &dyn Clock) {
        let mut pause = PAUSE.0;
        loop {
            match self.follow(store, clock).await {
                Ok(()) => pause = PAUSE.0,
                Err(error) => {
                    tracing::warn!(kind = %self.kind, ?error, "cannot follow the store; trying again");
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
            clock.sleep(pause).await;
        }
    }

    /// Lists, then follows the changes until the watch ends or it is time to list again.
    async fn follow(&self, store: &dyn Store, clock: &dyn Clock) -> Result<()> {
        let revision = self.fill(store).await?;
        let mut events = store.watch(self.kind, revision).await?;
        let mut time = clock.sleep(self.relist);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.doubted.notified() => None,
                () = &mut time => None,
            };
            match event {
                Some(Event::Applied(object)) => self.apply(&object, false),
                Some(Event::Deleted(object)) => self.apply(&object, true),
                Some(Event::Bookmark(revision)) => self.advance(revision),
                Some(Event::Expired) => {
                    // The store may have gone back, as to a backup: what it lists next counts, however old.
                    self.revision.send_replace(None);
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
    }

    /// Lists, and returns the revision to go on from. A listing older than what was seen is not taken: nobody is shown the past.
    async fn fill(&self, store: &dyn Store) -> Result<Revision> {
        let mut request = ListRequest::new(self.kind, Scope::cluster());
        request.limit = PAGE;
        let mut objects = Objects::default();
        loop {
            let page = store.list(&request).await?;
            for object in page.objects {
                objects.insert(object.key(), self.shared(&object));
            }
            request.after = page.next;
            if request.after.is_none() {
                let seen = *self.revision.borrow();
                if let Some(seen) = seen.filter(|seen| *seen > page.revision) {
                    return Ok(seen);
                }
                self.replace(objects, page.revision);
                return Ok(page.revision);
            }
        }
    }

    /// What is held already if nothing changed, so that a listing keeps nothing twice.
    fn shared(&self, object: &Object) -> Arc<Held> {
        let known = self.get(&object.key());
        let same = known.filter(|known| known.revision == object.metadata.revision);
        same.unwrap_or_else(|| Arc::new(Held::of(object)))
    }

    /// Takes a listing, and tells what in it is news.
    fn replace(&self, objects: Objects, revision: Revision) {
        let first = !self.synced();
        let news = self.lock().replace(objects);
        self.advance(revision);
        if first {
            let _ = self.changes.send(Change::All);
            return;
        }
        for key in news {
            let _ = self.changes.send(Change::Key(key));
        }
    }

    fn apply(&self, object: &Object, gone: bool) {
        let (key, revision) = (object.key(), object.metadata.revision);
        if gone {
            self.lock().remove(&key);
        } else {
            self.lock().insert(key.clone(), Arc::new(Held::of(object)));
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
