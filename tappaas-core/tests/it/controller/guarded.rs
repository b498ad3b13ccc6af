//! Backends that a test can hold up or refuse, question by question.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{future::BoxFuture, stream::BoxStream};
use tappaas_core::{
    Event, Key, Kind, ListRequest, Object, Page, Precondition, Result, Revision, Scope, Store,
    backend::{
        Exec, ExecRequest, IngressCapabilities, IngressProvider, LogLine, LogRequest, Node, Peer,
        PeerAddress, Route, RouteId, RouteStatus, Scheduler, SchedulerCapabilities, Signal,
        Workload, WorkloadId, WorkloadStatus,
    },
    model::{ApplicationKey, Limits},
};

/// What a backend is about to be asked.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// The store was asked for an object, and is about to answer.
    Got(Key),
    Put(Object),
    PutStatus(Object),
    Delete(Key),
    Peer,
    ApplyRoute(Route),
    ListRoutes,
}

type Answer = BoxFuture<'static, Result<()>>;
type Rule = Arc<dyn Fn(Question) -> Answer + Send + Sync>;

/// Decides about questions; shared by all backends of a world.
#[derive(Clone, Default)]
pub(super) struct Guard {
    rule: Arc<Mutex<Option<Rule>>>,
    keeps_limits: Arc<AtomicBool>,
    pending: Arc<Mutex<Option<Pending>>>,
}

/// That every route is pending, and after what time that may pass by itself.
#[derive(Clone, Copy)]
pub(super) struct Pending(pub(super) Option<Duration>);

impl Guard {
    /// From now on a question is asked once `rule` said yes; an error is the answer.
    pub(super) fn set<F>(&self, rule: impl Fn(Question) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let rule: Rule = Arc::new(move |question| Box::pin(rule(question)));
        *self.rule.lock().unwrap() = Some(rule);
    }

    /// From now on everything may be asked.
    pub(super) fn open(&self) {
        *self.rule.lock().unwrap() = None;
    }

    /// From now on the ingress says of every route that it is pending, or is not.
    pub(super) fn keep_pending(&self, pending: Option<Pending>) {
        *self.pending.lock().unwrap() = pending;
    }

    /// From now on the scheduler says that it keeps limits, though it counts nothing.
    pub(super) fn keep_limits(&self) {
        self.keeps_limits.store(true, Ordering::Relaxed);
    }

    async fn pass(&self, question: Question) -> Result<()> {
        let rule = self.rule.lock().unwrap().clone();
        match rule {
            Some(rule) => rule(question).await,
            None => Ok(()),
        }
    }
}

/// A backend behind a guard.
pub(super) struct Guarded<T: ?Sized> {
    pub(super) inner: Arc<T>,
    pub(super) guard: Guard,
}

impl<T: ?Sized> std::fmt::Debug for Guarded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarded").finish_non_exhaustive()
    }
}

#[async_trait]
impl<T: Store + ?Sized> Store for Guarded<T> {
    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        let found = self.inner.get(key).await?;
        self.guard.pass(Question::Got(key.clone())).await?;
        Ok(found)
    }

    async fn list(&self, request: &ListRequest) -> Result<Page> {
        self.inner.list(request).await
    }

    async fn put(&self, object: Object, precondition: Precondition) -> Result<Object> {
        self.guard.pass(Question::Put(object.clone())).await?;
        self.inner.put(object, precondition).await
    }

    async fn put_status(&self, object: Object, precondition: Precondition) -> Result<Object> {
        self.guard.pass(Question::PutStatus(object.clone())).await?;
        self.inner.put_status(object, precondition).await
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Option<Object>> {
        self.guard.pass(Question::Delete(key.clone())).await?;
        self.inner.delete(key, precondition).await
    }

    async fn watch(&self, kind: Kind, from: Revision) -> Result<BoxStream<'static, Event>> {
        self.inner.watch(kind, from).await
    }
}

#[async_trait]
impl<T: Scheduler + ?Sized> Scheduler for Guarded<T> {
    fn capabilities(&self) -> SchedulerCapabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.quotas |= self.guard.keeps_limits.load(Ordering::Relaxed);
        capabilities
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        self.inner.nodes().await
    }

    async fn prepare(&self, environment: &Scope, limits: &Limits) -> Result<Option<String>> {
        let limits = match self.guard.keeps_limits.load(Ordering::Relaxed) {
            true => &Limits::default(),
            false => limits,
        };
        self.inner.prepare(environment, limits).await
    }

    async fn discard(&self, environment: &Scope) -> Result<()> {
        self.inner.discard(environment).await
    }

    async fn apply(&self, workload: &Workload) -> Result<()> {
        self.inner.apply(workload).await
    }

    async fn observe(&self, id: &WorkloadId) -> Result<Option<WorkloadStatus>> {
        self.inner.observe(id).await
    }

    async fn list(&self) -> Result<Vec<WorkloadId>> {
        self.inner.list().await
    }

    async fn remove(&self, id: &WorkloadId) -> Result<()> {
        self.inner.remove(id).await
    }

    async fn logs(&self, request: &LogRequest) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.inner.logs(request).await
    }

    async fn exec(&self, request: &ExecRequest) -> Result<Exec> {
        self.inner.exec(request).await
    }

    async fn peer(&self, from: &ApplicationKey, peer: &Peer) -> Result<PeerAddress> {
        self.guard.pass(Question::Peer).await?;
        self.inner.peer(from, peer).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, WorkloadId>> {
        self.inner.watch().await
    }
}

#[async_trait]
impl<T: IngressProvider + ?Sized> IngressProvider for Guarded<T> {
    fn capabilities(&self) -> IngressCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, route: &Route) -> Result<()> {
        self.guard.pass(Question::ApplyRoute(route.clone())).await?;
        self.inner.apply(route).await
    }

    async fn observe(&self, id: &RouteId) -> Result<Option<RouteStatus>> {
        let mut found = self.inner.observe(id).await?;
        let pending = *self.guard.pending.lock().unwrap();
        if let (Some(found), Some(Pending(look_after))) = (&mut found, pending) {
            found.generation = 0;
            found.pending = Some("nobody has looked at it".to_owned());
            found.look_after = look_after;
        }
        Ok(found)
    }

    async fn list(&self) -> Result<Vec<RouteId>> {
        self.guard.pass(Question::ListRoutes).await?;
        self.inner.list().await
    }

    async fn remove(&self, id: &RouteId) -> Result<()> {
        self.inner.remove(id).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, Signal>> {
        self.inner.watch().await
    }
}
