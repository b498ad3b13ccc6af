use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures::stream::BoxStream;
use kube::Client;
use tappaas_core::{
    Event, Key, Kind, ListRequest, Object, Page, Precondition, Result, Revision, Scope, Store,
    memory,
};
use tappaas_k8s::KubernetesStore;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    cluster::{client, define},
    permissive::permissive,
};

pub(crate) const GROUP: &str = "conformance.tappaas.dev";
/// The kinds that the suite writes.
const KINDS: [Kind; 4] = [
    Kind::Application,
    Kind::Environment,
    Kind::HostClaim,
    Kind::Volume,
];

/// The store in the one cluster, empty, for one test at a time.
#[derive(Debug)]
pub(crate) struct Seat {
    store: KubernetesStore,
    _turn: OwnedMutexGuard<bool>,
}

impl Seat {
    /// Waits until no other test has it.
    pub(crate) async fn take() -> Self {
        static TURN: OnceLock<Arc<Mutex<bool>>> = OnceLock::new();
        let mut turn = TURN.get_or_init(Arc::default).clone().lock_owned().await;
        let client = client().await;
        if !*turn {
            define(&client, KINDS.map(|kind| permissive(GROUP, kind))).await;
            *turn = true;
        }
        let store = open(client);
        empty(&store).await;
        Self { store, _turn: turn }
    }

    /// The same store, as another process opens it.
    pub(crate) async fn again(&self) -> KubernetesStore {
        open(client().await)
    }
}

fn open(client: Client) -> KubernetesStore {
    let (clock, ids) = (memory::Clock::new(), memory::Ids::new());
    KubernetesStore::new(client, GROUP, Arc::new(clock), Arc::new(ids))
}

/// Removes what the test before left.
async fn empty(store: &KubernetesStore) {
    for kind in KINDS {
        let all = ListRequest::new(kind, Scope::cluster());
        for mut object in store.list(&all).await.unwrap().objects {
            let key = object.key();
            object.metadata.finalizers.clear();
            store.put(object, Precondition::Present).await.ok();
            store.delete(&key, Precondition::Present).await.unwrap();
        }
    }
}

#[async_trait]
impl Store for Seat {
    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.store.get(key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Page> {
        self.store.list(request).await
    }

    async fn put(&self, object: Object, precondition: Precondition) -> Result<Object> {
        self.store.put(object, precondition).await
    }

    async fn put_status(&self, object: Object, precondition: Precondition) -> Result<Object> {
        self.store.put_status(object, precondition).await
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Option<Object>> {
        self.store.delete(key, precondition).await
    }

    async fn watch(&self, kind: Kind, from: Revision) -> Result<BoxStream<'static, Event>> {
        self.store.watch(kind, from).await
    }
}
