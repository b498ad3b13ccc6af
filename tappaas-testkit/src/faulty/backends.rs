use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use tappaas_core::{
    Digest, Name, Result, Scope,
    backend::{
        BuildId, BuildOutcome, BuildRequest, Builder, BuilderCapabilities, Content, Exec,
        ExecRequest, IngressCapabilities, IngressProvider, LogLine, LogRequest, Node, Peer,
        PeerAddress, Reference, Registry, Repository, Route, RouteId, RouteStatus, Scheduler,
        SchedulerCapabilities, Secret, SecretCapabilities, SecretPath, SecretPrecondition,
        SecretStore, SecretVersion, Signal, Tag, Volume, VolumeId, VolumeStatus, Volumes, Workload,
        WorkloadId, WorkloadStatus,
    },
    model::{ApplicationKey, Limits},
};

use super::Faulty;

#[async_trait]
impl<T: Scheduler + ?Sized> Scheduler for Faulty<T> {
    fn capabilities(&self) -> SchedulerCapabilities {
        self.inner.capabilities()
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        self.call("nodes", || self.inner.nodes()).await
    }

    async fn prepare(&self, environment: &Scope, limits: &Limits) -> Result<Option<String>> {
        self.call("prepare", || self.inner.prepare(environment, limits))
            .await
    }

    async fn discard(&self, environment: &Scope) -> Result<()> {
        self.call("discard", || self.inner.discard(environment))
            .await
    }

    async fn apply(&self, workload: &Workload) -> Result<()> {
        self.call("apply", || self.inner.apply(workload)).await
    }

    async fn observe(&self, id: &WorkloadId) -> Result<Option<WorkloadStatus>> {
        self.call("observe", || self.inner.observe(id)).await
    }

    async fn list(&self) -> Result<Vec<WorkloadId>> {
        self.call("list", || self.inner.list()).await
    }

    async fn remove(&self, id: &WorkloadId) -> Result<()> {
        self.call("remove", || self.inner.remove(id)).await
    }

    async fn logs(&self, request: &LogRequest) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.call("logs", || self.inner.logs(request)).await
    }

    async fn exec(&self, request: &ExecRequest) -> Result<Exec> {
        self.call("exec", || self.inner.exec(request)).await
    }

    async fn peer(&self, from: &ApplicationKey, peer: &Peer) -> Result<PeerAddress> {
        self.call("peer", || self.inner.peer(from, peer)).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, WorkloadId>> {
        let items = self.call("watch", || self.inner.watch()).await?;
        Ok(self.items(items))
    }
}

#[async_trait]
impl<T: IngressProvider + ?Sized> IngressProvider for Faulty<T> {
    fn capabilities(&self) -> IngressCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, route: &Route) -> Result<()> {
        self.call("apply", || self.inner.apply(route)).await
    }

    async fn observe(&self, id: &RouteId) -> Result<Option<RouteStatus>> {
        self.call("observe", || self.inner.observe(id)).await
    }

    async fn list(&self) -> Result<Vec<RouteId>> {
        self.call("list", || self.inner.list()).await
    }

    async fn remove(&self, id: &RouteId) -> Result<()> {
        self.call("remove", || self.inner.remove(id)).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, Signal>> {
        let items = self.call("watch", || self.inner.watch()).await?;
        Ok(self.items(items))
    }
}

#[async_trait]
impl<T: Builder + ?Sized> Builder for Faulty<T> {
    fn capabilities(&self) -> BuilderCapabilities {
        self.inner.capabilities()
    }

    async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome> {
        self.call("build", || self.inner.build(request)).await
    }

    async fn list(&self) -> Result<Vec<BuildId>> {
        self.call("list", || self.inner.list()).await
    }

    async fn cancel(&self, id: &BuildId) -> Result<()> {
        self.call("cancel", || self.inner.cancel(id)).await
    }

    async fn logs(
        &self,
        id: &BuildId,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.call("logs", || self.inner.logs(id, follow)).await
    }
}

#[async_trait]
impl<T: Registry + ?Sized> Registry for Faulty<T> {
    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        self.call("resolve", || self.inner.resolve(repository, reference))
            .await
    }

    async fn pull(
        &self,
        repository: &Repository,
        content: &Content,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.call("pull", || self.inner.pull(repository, content))
            .await
    }

    /// Reads all of `bytes` first, so that it can be pushed twice; an error in it ends the push it is in.
    async fn push(
        &self,
        repository: &Repository,
        content: &Content,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()> {
        let mut chunks = Vec::new();
        let mut bytes = bytes;
        let broken = loop {
            match bytes.try_next().await {
                Ok(Some(chunk)) => chunks.push(chunk),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = broken {
            let chunks = chunks.into_iter().map(Ok).chain([Err(error)]);
            let chunks = stream::iter(chunks.collect::<Vec<_>>()).boxed();
            return self.inner.push(repository, content, chunks).await;
        }
        self.call("push", || {
            let chunks = stream::iter(chunks.clone().into_iter().map(Ok)).boxed();
            self.inner.push(repository, content, chunks)
        })
        .await
    }

    async fn tag(&self, repository: &Repository, digest: &Digest, tag: &Tag) -> Result<()> {
        self.call("tag", || self.inner.tag(repository, digest, tag))
            .await
    }

    async fn list(&self, repository: &Repository) -> Result<Vec<Tag>> {
        self.call("list", || self.inner.list(repository)).await
    }

    async fn delete(&self, repository: &Repository, reference: &Reference) -> Result<()> {
        self.call("delete", || self.inner.delete(repository, reference))
            .await
    }
}

#[async_trait]
impl<T: SecretStore + ?Sized> SecretStore for Faulty<T> {
    fn capabilities(&self) -> SecretCapabilities {
        self.inner.capabilities()
    }

    async fn get(&self, path: &SecretPath, version: Option<u64>) -> Result<Option<SecretVersion>> {
        self.call("get", || self.inner.get(path, version)).await
    }

    async fn put(
        &self,
        path: &SecretPath,
        value: &Secret,
        precondition: SecretPrecondition,
    ) -> Result<u64> {
        self.call("put", || self.inner.put(path, value, precondition))
            .await
    }

    async fn delete(&self, path: &SecretPath) -> Result<()> {
        self.call("delete", || self.inner.delete(path)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<SecretPath>> {
        self.call("list", || self.inner.list(prefix)).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, SecretPath>> {
        let items = self.call("watch", || self.inner.watch()).await?;
        Ok(self.items(items))
    }
}

#[async_trait]
impl<T: Volumes + ?Sized> Volumes for Faulty<T> {
    async fn apply(&self, volume: &Volume) -> Result<()> {
        self.call("apply", || self.inner.apply(volume)).await
    }

    async fn observe(&self, id: &VolumeId) -> Result<Option<VolumeStatus>> {
        self.call("observe", || self.inner.observe(id)).await
    }

    async fn list(&self) -> Result<Vec<VolumeId>> {
        self.call("list", || self.inner.list()).await
    }

    async fn remove(&self, id: &VolumeId) -> Result<()> {
        self.call("remove", || self.inner.remove(id)).await
    }

    async fn snapshot(&self, id: &VolumeId, name: &Name) -> Result<()> {
        self.call("snapshot", || self.inner.snapshot(id, name))
            .await
    }
}
