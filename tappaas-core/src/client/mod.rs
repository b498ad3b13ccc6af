//! Typed access to the store: reads come from a watch-fed cache, writes are compare-and-swap.

mod cache;
mod held;
mod merge;

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::JoinSet,
};

pub(crate) use self::{
    cache::Change,
    held::{Held, Reference},
};

use self::cache::Cache;
use crate::{
    Clock, Error, ErrorKind, Key, Kind, Object, Precondition, Result, Scope, Store,
    model::{Spec, Typed},
    object::API_VERSION,
};

/// How often [`Client::modify`] reads again after somebody else was quicker.
const CONFLICTS_MAX: usize = 16;

/// How long a writer waits until its own write is in the cache.
const OWN_WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads and writes objects as Rust types.
///
/// A read returns what the cache holds. A write returns once the cache holds it, so that whoever wrote sees it.
#[derive(Clone, Debug)]
pub struct Client {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    caches: Arc<[Cache]>,
}

impl Client {
    /// Creates a client. Its cache is empty until [`Client::run`] runs, and listed anew each `relist`, should an event have been lost.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, relist: Duration) -> Self {
        let caches = Kind::ALL.into_iter().map(|kind| Cache::new(kind, relist));
        Self {
            store,
            clock,
            caches: caches.collect(),
        }
    }

    /// Feeds the cache for as long as it is polled.
    pub async fn run(&self) {
        let mut feeds = JoinSet::new();
        for i in 0..self.caches.len() {
            let client = self.clone();
            feeds.spawn(async move { client.caches[i].run(&*client.store, &*client.clock).await });
        }
        while feeds.join_next().await.is_some() {}
    }

    /// Says whether every kind has been read once.
    pub fn synced(&self) -> bool {
        self.caches.iter().all(Cache::synced)
    }

    /// Waits until every kind has been read once.
    pub async fn sync(&self) {
        for cache in &*self.caches {
            cache.reach(crate::Revision::default()).await;
        }
    }

    /// Returns an object, or `None` if it is not there.
    ///
    /// # Errors
    /// `Internal` if this version cannot read it.
    pub fn get<S: Spec>(&self, scope: &Scope, name: &str) -> Result<Option<Typed<S>>> {
        let key = Key::new(S::KIND, scope.clone(), name);
        self.cache(S::KIND)
            .get(&key)
            .map(|held| held.typed())
            .transpose()
    }

    /// Returns the objects in a scope or inside it that this version can read, in order of their keys.
    ///
    /// One that cannot be read is reported and left out, so that it harms nobody else.
    pub fn list<S: Spec>(&self, scope: &Scope) -> Vec<Typed<S>> {
        readable(&self.cache(S::KIND).list(scope))
    }

    /// Returns the objects of one scope that name an application, in order of their keys; unreadable ones are left out as in [`Client::list`].
    pub(crate) fn naming<S: Spec>(&self, scope: &Scope, reference: &Reference) -> Vec<Typed<S>> {
        readable(&self.cache(S::KIND).naming(scope, reference))
    }

    /// Returns the keys of all objects of a kind in a scope or inside it.
    pub fn keys(&self, kind: Kind, scope: &Scope) -> Vec<Key> {
        self.cache(kind).keys(scope)
    }

    /// Returns an object without interpreting it.
    pub(crate) fn held(&self, key: &Key) -> Option<Arc<Held>> {
        self.cache(key.kind).get(key)
    }

    /// Names the objects of a kind that change, as they change.
    pub(crate) fn subscribe(&self, kind: Kind) -> broadcast::Receiver<Change> {
        self.cache(kind).subscribe()
    }

    /// Yields soon after anything of a kind may have changed; several changes may come as one.
    pub fn changes(&self, kind: Kind) -> BoxStream<'static, ()> {
        let changes = stream::unfold(self.subscribe(kind), async |mut changes| {
            match changes.recv().await {
                Ok(_) | Err(RecvError::Lagged(_)) => Some(((), changes)),
                Err(RecvError::Closed) => None,
            }
        });
        changes.boxed()
    }

    /// Creates an object.
    ///
    /// # Errors
    /// `AlreadyExists` if it is there.
    pub async fn create<S: Spec>(&self, object: &Typed<S>) -> Result<Typed<S>> {
        let stored = self
            .store
            .put(object.to_object()?, Precondition::Absent)
            .await?;
        self.seen(stored).await
    }

    /// Replaces metadata and spec of an object that was read before. Fields unknown to this version survive.
    ///
    /// # Errors
    /// `Conflict` if it changed since it was read.
    pub async fn update<S: Spec>(&self, object: &Typed<S>) -> Result<Typed<S>> {
        let merged = self.merged(object).await?;
        let stored = self
            .store
            .put(merged, Precondition::Revision(object.metadata.revision))
            .await?;
        self.seen(stored).await
    }

    /// Replaces the finalizers of an object that was read before, and nothing else: what somebody wrote stays as they wrote it.
    ///
    /// # Errors
    /// `Conflict` if it changed since it was read.
    pub async fn update_finalizers<S: Spec>(&self, object: &Typed<S>) -> Result<Typed<S>> {
        let revision = object.metadata.revision;
        let mut stored = self.stored(&object.key(), revision).await?;
        stored
            .metadata
            .finalizers
            .clone_from(&object.metadata.finalizers);
        let stored = self
            .store
            .put(stored, Precondition::Revision(revision))
            .await?;
        self.seen(stored).await
    }

    /// Replaces the status of an object that was read before. Fields unknown to this version survive.
    ///
    /// # Errors
    /// `Conflict` if it changed since it was read.
    pub async fn update_status<S: Spec>(&self, object: &Typed<S>) -> Result<Typed<S>> {
        let merged = self.merged(object).await?;
        let stored = self
            .store
            .put_status(merged, Precondition::Revision(object.metadata.revision))
            .await?;
        self.seen(stored).await
    }

    /// Changes an object as it is now: reads it again whenever somebody else was quicker.
    ///
    /// # Errors
    /// `NotFound` if it is not there; whatever `change` returns; `Conflict` if others are always quicker.
    pub async fn modify<S: Spec>(
        &self,
        scope: &Scope,
        name: &str,
        mut change: impl FnMut(&mut Typed<S>) -> Result<()> + Send,
    ) -> Result<Typed<S>> {
        let key = Key::new(S::KIND, scope.clone(), name);
        for _ in 0..CONFLICTS_MAX {
            let stored = self.store.get(&key).await?;
            let stored = stored.ok_or_else(|| Error::not_found(format!("{key} does not exist")))?;
            let mut object = Typed::<S>::from_object(&stored)?;
            self.reach(&stored, false).await?;
            change(&mut object)?;
            match self.update(&object).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                other => return other,
            }
        }
        Err(Error::conflict(format!(
            "{key} is changed by others all the time; try again"
        )))
    }

    /// Deletes an object, or asks for its deletion if it has finalizers. What is not there is deleted already.
    ///
    /// # Errors
    /// What the store says.
    pub async fn delete(&self, key: &Key) -> Result<()> {
        match self.store.delete(key, Precondition::Present).await? {
            Some(left) => self.reach(&left, left.metadata.finalizers.is_empty()).await,
            None => Ok(()),
        }
    }

    /// Deletes an object if it is still as it was read.
    ///
    /// # Errors
    /// `Conflict` if it changed since.
    pub async fn delete_unchanged<S: Spec>(&self, object: &Typed<S>) -> Result<()> {
        let unchanged = Precondition::Revision(object.metadata.revision);
        match self.store.delete(&object.key(), unchanged).await? {
            Some(left) => self.reach(&left, left.metadata.finalizers.is_empty()).await,
            None => Ok(()),
        }
    }

    /// The stored object with the changes of a typed one.
    async fn merged<S: Spec>(&self, object: &Typed<S>) -> Result<Object> {
        let stored = self.stored(&object.key(), object.metadata.revision).await?;
        let (old, new) = (
            Typed::<S>::from_object(&stored)?.to_object()?,
            object.to_object()?,
        );
        Ok(Object {
            api_version: API_VERSION.to_owned(),
            spec: merge::merge(&stored.spec, &old.spec, &new.spec),
            status: merge::merge(&stored.status, &old.status, &new.status),
            ..new
        })
    }

    /// An object as it is stored, at a revision that was read before.
    async fn stored(&self, key: &Key, revision: crate::Revision) -> Result<Object> {
        let cached = self.held(key).filter(|held| held.revision == revision);
        if let Some(cached) = cached {
            return cached.object();
        }
        let stored = self.store.get(key).await?;
        let same = stored.filter(|stored| stored.metadata.revision == revision);
        same.ok_or_else(|| Error::conflict(format!("{key} was changed by somebody else")))
    }

    async fn seen<S: Spec>(&self, stored: Object) -> Result<Typed<S>> {
        let (deletion, finalizers) = (&stored.metadata.deletion, &stored.metadata.finalizers);
        let gone = deletion.is_some() && finalizers.is_empty();
        self.reach(&stored, gone).await?;
        Typed::from_object(&stored)
    }

    /// Has a kind listed again soon, because the cache lacks what the store has.
    pub(crate) fn doubt(&self, kind: Kind) {
        self.cache(kind).doubt();
    }

    /// Waits until the cache has seen how a write left an object, or what came later.
    pub(crate) async fn reach(&self, left: &Object, gone: bool) -> Result<()> {
        let cache = self.cache(left.kind);
        tokio::select! {
            biased;
            () = cache.reach(left.metadata.revision) => {
                cache.verify(left, gone);
                Ok(())
            }
            () = self.clock.sleep(OWN_WRITE_TIMEOUT) => {
                cache.doubt();
                Err(Error::unavailable("the cache does not follow the store"))
            }
        }
    }

    fn cache(&self, kind: Kind) -> &Cache {
        let position = Kind::ALL.iter().position(|other| *other == kind);
        &self.caches[position.expect("`Kind::ALL` has every kind")]
    }
}

fn readable<S: Spec>(objects: &[Arc<Held>]) -> Vec<Typed<S>> {
    let readable = objects.iter().filter_map(|object| match object.typed() {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(?error, "an object is left out");
            None
        }
    });
    readable.collect()
}
