use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use tappaas_core::{
    ErrorKind, Event, Key, Kind, ListRequest, Metadata, Name, Object, Page, Precondition, Result,
    Revision, Scope, Store, memory, object::API_VERSION,
};
use tappaas_etcd::{Config, Keyspace};
use tappaas_testkit::conformance::{Failure, until};

use crate::etcd::Etcd;

/// An empty store in the shared etcd, which it keeps running.
#[derive(Debug)]
pub(crate) struct Seat {
    keyspace: Keyspace,
    _etcd: Kept,
}

struct Kept(Arc<Etcd>);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.endpoint())
    }
}

impl Seat {
    pub(crate) async fn take() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let etcd = Etcd::shared().await;
        let prefix = format!("/seats/{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Self {
            keyspace: open(&etcd.config(&prefix)).await.unwrap(),
            _etcd: Kept(etcd),
        }
    }
}

/// Opens a store in an etcd that may still have to begin.
pub(crate) async fn open(config: &Config) -> Result<Keyspace, Failure> {
    until("the store opens", async || match try_open(config).await {
        Err(error) if error.kind() == ErrorKind::Unavailable => Ok(None),
        opened => Ok(Some(opened?)),
    })
    .await
}

pub(crate) async fn try_open(config: &Config) -> Result<Keyspace> {
    let (clock, ids) = (memory::Clock::new(), memory::Ids::new());
    Keyspace::open(config, Arc::new(clock), Arc::new(ids)).await
}

pub(crate) fn application(name: &str, spec: Value) -> Object {
    let [tenant, project, environment] = ["one", "p", "e"].map(|name| Name::new(name).unwrap());
    let scope = Scope::environment(tenant, project, environment);
    Object {
        api_version: API_VERSION.to_owned(),
        kind: Kind::Application,
        metadata: Metadata::new(&scope, name),
        spec,
        status: Value::Null,
    }
}

pub(crate) async fn create(store: &dyn Store, name: &str) -> Result<Object> {
    store
        .put(application(name, json!({ "n": 0 })), Precondition::Absent)
        .await
}

pub(crate) fn all() -> ListRequest {
    ListRequest::new(Kind::Application, Scope::cluster())
}

#[async_trait]
impl Store for Seat {
    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.keyspace.get(key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Page> {
        self.keyspace.list(request).await
    }

    async fn put(&self, object: Object, precondition: Precondition) -> Result<Object> {
        self.keyspace.put(object, precondition).await
    }

    async fn put_status(&self, object: Object, precondition: Precondition) -> Result<Object> {
        self.keyspace.put_status(object, precondition).await
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Option<Object>> {
        self.keyspace.delete(key, precondition).await
    }

    async fn watch(&self, kind: Kind, from: Revision) -> Result<BoxStream<'static, Event>> {
        self.keyspace.watch(kind, from).await
    }
}
