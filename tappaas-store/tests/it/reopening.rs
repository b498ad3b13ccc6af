use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use tappaas_core::{
    Batch, Durable, Event, Ids, Key, Kind, ListRequest, Object, Page, Precondition, Result,
    Revision, Row, Store, memory,
};
use tappaas_store::{Embedded, Limits};
use tempfile::TempDir;
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::fixture::{directory, open_with};

/// A store that is closed and opened again before each write. Watches go on over that as a client makes them: from the last revision seen.
#[derive(Clone, Debug)]
pub(crate) struct Reopening {
    directory: Arc<TempDir>,
    ids: Arc<dyn Ids>,
    store: Arc<RwLock<Option<Embedded>>>,
}

impl Reopening {
    pub(crate) fn new() -> Self {
        let (directory, ids) = (directory(), Arc::new(memory::Ids::new()));
        let store = open_with(directory.path(), Limits::default(), ids.clone()).unwrap();
        Self {
            directory: Arc::new(directory),
            ids,
            store: Arc::new(RwLock::new(Some(store))),
        }
    }

    async fn reopen(&self) {
        let mut store = self.store.write().await;
        drop(store.take());
        let opened = open_with(self.directory.path(), Limits::default(), self.ids.clone());
        *store = Some(opened.unwrap());
    }

    async fn store(&self) -> RwLockReadGuard<'_, Embedded> {
        RwLockReadGuard::map(self.store.read().await, |store| store.as_ref().unwrap())
    }

    async fn next(mut watch: Watch) -> Option<(Event, Watch)> {
        loop {
            if let Some(event) = watch.events.next().await {
                if let Event::Applied(object) | Event::Deleted(object) = &event {
                    watch.position = object.metadata.revision;
                }
                watch.ended = event == Event::Expired;
                return Some((event, watch));
            }
            if watch.ended {
                return None;
            }
            let store = watch.reopening.store().await;
            let events = Store::watch(&*store, watch.kind, watch.position).await;
            drop(store);
            watch.events = events.unwrap();
        }
    }
}

struct Watch {
    reopening: Reopening,
    kind: Kind,
    position: Revision,
    events: BoxStream<'static, Event>,
    ended: bool,
}

#[async_trait]
impl Store for Reopening {
    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        Store::get(&*self.store().await, key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Page> {
        self.store().await.list(request).await
    }

    async fn put(&self, object: Object, precondition: Precondition) -> Result<Object> {
        self.reopen().await;
        self.store().await.put(object, precondition).await
    }

    async fn put_status(&self, object: Object, precondition: Precondition) -> Result<Object> {
        self.reopen().await;
        self.store().await.put_status(object, precondition).await
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Option<Object>> {
        self.reopen().await;
        self.store().await.delete(key, precondition).await
    }

    async fn watch(&self, kind: Kind, from: Revision) -> Result<BoxStream<'static, Event>> {
        let events = self.store().await.watch(kind, from).await?;
        let watch = Watch {
            reopening: self.clone(),
            kind,
            position: from,
            events,
            ended: false,
        };
        Ok(stream::unfold(watch, Self::next).boxed())
    }
}

#[async_trait]
impl Durable for Reopening {
    async fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Durable::get(&*self.store().await, table, key).await
    }

    async fn scan(
        &self,
        table: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        self.store().await.scan(table, prefix, after, limit).await
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        self.reopen().await;
        self.store().await.commit(batch).await
    }
}
