use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::watch;

use super::lock::lock;
use crate::{
    Clock, Cursor, Error, Event, Ids, Key, Kind, ListRequest, Object, Page, Precondition, Result,
    Revision, Scope,
    store::{self, Outcome, decide_delete, decide_put, decide_put_status},
};

/// How many listings of several pages may be open; with one more the oldest expires.
const LISTINGS_MAX: usize = 16;

/// A store in memory. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    state: Arc<Mutex<State>>,
}

impl Store {
    /// How many changes of each kind a store made by [`Store::new`] keeps.
    pub const HISTORY: usize = 10_000;

    /// Starts empty.
    pub fn new(clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self::with_history(clock, ids, Self::HISTORY)
    }

    /// Starts empty, and keeps the last `history` changes of each kind: watches from before them expire.
    pub fn with_history(clock: Arc<dyn Clock>, ids: Arc<dyn Ids>, history: usize) -> Self {
        let state = State {
            revision: 0,
            objects: BTreeMap::new(),
            logs: BTreeMap::new(),
            listings: VecDeque::new(),
            history,
            changed: watch::Sender::new(0),
        };
        Self {
            clock,
            ids,
            state: Arc::new(Mutex::new(state)),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Store")
            .field("revision", &state.revision)
            .field("objects", &state.objects.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl store::Store for Store {
    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        key.check()?;
        Ok(lock(&self.state)
            .objects
            .get(key)
            .map(|object| Object::clone(object)))
    }

    async fn list(&self, request: &ListRequest) -> Result<Page> {
        if request.limit == 0 {
            return Err(Error::invalid("a listing needs a limit of at least 1"));
        }
        lock(&self.state).list(request, || self.ids.unique())
    }

    async fn put(&self, object: Object, precondition: Precondition) -> Result<Object> {
        let (key, now) = (object.key(), self.clock.now());
        let mut state = lock(&self.state);
        let existing = state.objects.get(&key).cloned();
        let existing = existing.as_deref();
        let outcome = decide_put(existing, object, precondition, || self.ids.unique(), now)?;
        Ok(state
            .execute(outcome)
            .or_else(|| existing.cloned())
            .expect("only an existing object is left as it is"))
    }

    async fn put_status(&self, object: Object, precondition: Precondition) -> Result<Object> {
        let mut state = lock(&self.state);
        let existing = state.objects.get(&object.key()).cloned();
        let existing = existing.as_deref();
        let outcome = decide_put_status(existing, object, precondition)?;
        Ok(state
            .execute(outcome)
            .or_else(|| existing.cloned())
            .expect("a status needs its object"))
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Option<Object>> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let existing = state.objects.get(key).cloned();
        let existing = existing.as_deref();
        let outcome = decide_delete(existing, key, precondition, now)?;
        Ok(state.execute(outcome).or_else(|| existing.cloned()))
    }

    async fn watch(&self, kind: Kind, from: Revision) -> Result<BoxStream<'static, Event>> {
        let changed = lock(&self.state).changed.subscribe();
        let watcher = Watcher {
            state: self.state.clone(),
            changed,
            kind,
            position: from.counter(),
            expired: false,
        };
        Ok(stream::unfold(watcher, Watcher::next).boxed())
    }
}

struct State {
    /// The last revision given out.
    revision: u64,
    objects: BTreeMap<Key, Arc<Object>>,
    logs: BTreeMap<Kind, Log>,
    listings: VecDeque<Listing>,
    history: usize,
    changed: watch::Sender<u64>,
}

/// The last changes of one kind.
#[derive(Default)]
struct Log {
    /// Changes up to this revision are forgotten.
    forgotten: u64,
    changes: VecDeque<Change>,
}

#[derive(Clone)]
struct Change {
    object: Arc<Object>,
    gone: bool,
}

/// The rest of a listing, as it was when its first page was read.
struct Listing {
    id: String,
    kind: Kind,
    scope: Scope,
    revision: u64,
    objects: Vec<Arc<Object>>,
}

impl State {
    /// Does what was decided. Returns what was written or removed.
    fn execute(&mut self, outcome: Outcome) -> Option<Object> {
        let (mut object, gone) = match outcome {
            Outcome::Keep(object) => (*object, false),
            Outcome::Remove(object) => (*object, true),
            Outcome::Nothing => return None,
        };
        self.revision += 1;
        object.metadata.revision = Revision::from_counter(self.revision);
        let change = Change {
            object: Arc::new(object.clone()),
            gone,
        };
        let key = object.key();
        if gone {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key, change.object.clone());
        }
        self.remember(change);
        self.changed.send_replace(self.revision);
        Some(object)
    }

    fn remember(&mut self, change: Change) {
        let log = self.logs.entry(change.object.kind).or_default();
        log.changes.push_back(change);
        while log.changes.len() > self.history
            && let Some(oldest) = log.changes.pop_front()
        {
            log.forgotten = oldest.object.metadata.revision.counter();
        }
    }

    fn list(&mut self, request: &ListRequest, id: impl FnOnce() -> String) -> Result<Page> {
        let limit = request.limit.min(ListRequest::LIMIT_MAX);
        if let Some(cursor) = &request.after {
            return self.next_page(request, cursor, limit);
        }
        let from = Key::new(request.kind, request.scope.clone(), "");
        let objects = self.objects.range(from..);
        let objects = objects
            .take_while(|(key, _)| key.kind == request.kind && request.scope.contains(&key.scope));
        let listing = Listing {
            id: id(),
            kind: request.kind,
            scope: request.scope.clone(),
            revision: self.revision,
            objects: objects.map(|(_, object)| object.clone()).collect(),
        };
        let page = listing.page(0, limit);
        if page.next.is_some() {
            self.listings.push_back(listing);
            if self.listings.len() > LISTINGS_MAX {
                self.listings.pop_front();
            }
        }
        Ok(page)
    }

    fn next_page(&self, request: &ListRequest, cursor: &Cursor, limit: usize) -> Result<Page> {
        let expired = || Error::expired("the listing was open for too long: list again");
        let (id, start) = cursor.0.rsplit_once('/').ok_or_else(expired)?;
        let listing = self
            .listings
            .iter()
            .find(|listing| listing.id == id)
            .ok_or_else(expired)?;
        let start = start.parse().map_err(|_| expired())?;
        if listing.kind != request.kind || listing.scope != request.scope {
            return Err(Error::invalid("the cursor belongs to another listing"));
        }
        Ok(listing.page(start, limit))
    }

    /// Says what a watcher at `position` gets next: `None` if nothing has happened since.
    fn after(&self, kind: Kind, position: u64) -> Option<Result<Change, Gone>> {
        if position > self.revision {
            return Some(Err(Gone));
        }
        let log = self.logs.get(&kind)?;
        if position < log.forgotten {
            return Some(Err(Gone));
        }
        let next = log
            .changes
            .partition_point(|change| change.object.metadata.revision.counter() <= position);
        Some(Ok(log.changes.get(next)?.clone()))
    }
}

/// The history that a watcher asks for is not there.
struct Gone;

impl Listing {
    fn page(&self, start: usize, limit: usize) -> Page {
        let end = start.saturating_add(limit).min(self.objects.len());
        let objects = self.objects.get(start..end).unwrap_or_default();
        Page {
            objects: objects.iter().map(|object| Object::clone(object)).collect(),
            revision: Revision::from_counter(self.revision),
            next: (end < self.objects.len()).then(|| Cursor(format!("{}/{end}", self.id))),
        }
    }
}

/// Reads the log from where it is; keeps nothing, so that a slow one costs nothing.
struct Watcher {
    state: Arc<Mutex<State>>,
    changed: watch::Receiver<u64>,
    kind: Kind,
    position: u64,
    expired: bool,
}

impl Watcher {
    async fn next(mut self) -> Option<(Event, Self)> {
        if self.expired {
            return None;
        }
        loop {
            self.changed.mark_unchanged();
            let next = lock(&self.state).after(self.kind, self.position);
            match next {
                Some(Ok(change)) => {
                    self.position = change.object.metadata.revision.counter();
                    let object = Object::clone(&change.object);
                    let event = if change.gone {
                        Event::Deleted(object)
                    } else {
                        Event::Applied(object)
                    };
                    return Some((event, self));
                }
                Some(Err(Gone)) => {
                    self.expired = true;
                    return Some((Event::Expired, self));
                }
                None => self.changed.changed().await.ok()?,
            }
        }
    }
}
