//! A store that shows the past once, as a replica does that lags.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use tappaas_core::{
    Event, Key, Kind, ListRequest, Object, Page, Precondition, Result, Revision, Store, memory,
};

/// How long a watch from the past takes until it shows what came since.
const LAG: Duration = Duration::from_secs(1);

/// A store that may lag behind itself.
#[derive(Debug)]
pub(crate) struct Lagging {
    inner: Arc<memory::Store>,
    behind: Mutex<Option<(Kind, usize)>>,
    late: Mutex<Option<Kind>>,
}

impl Lagging {
    pub(crate) fn new(inner: &Arc<memory::Store>) -> Self {
        Self {
            inner: inner.clone(),
            behind: Mutex::default(),
            late: Mutex::default(),
        }
    }

    /// The next listing of a kind shows it as it was so many changes ago.
    pub(crate) fn fall_behind(&self, kind: Kind, ago: usize) {
        *self.behind.lock().unwrap() = Some((kind, ago));
    }

    async fn past(&self, kind: Kind, ago: usize) -> Result<Page> {
        let mut changes = self.inner.watch(kind, Revision::default()).await?;
        let mut events = Vec::new();
        while let Some(Some(event)) = changes.next().now_or_never() {
            events.push(event);
        }
        events.truncate(events.len().saturating_sub(ago));
        let mut objects = std::collections::BTreeMap::new();
        let mut revision = Revision::default();
        for event in events {
            match event {
                Event::Applied(object) => {
                    revision = object.metadata.revision;
                    objects.insert(object.key(), object);
                }
                Event::Deleted(object) => {
                    revision = object.metadata.revision;
                    objects.remove(&object.key());
                }
                Event::Bookmark(_) | Event::Expired => {}
            }
        }
        Ok(Page {
            objects: objects.into_values().collect(),
            revision,
            next: None,
        })
    }
}

#[async_trait]
impl Store for Lagging {
    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.inner.get(key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Page> {
        let behind = self
            .behind
            .lock()
            .unwrap()
            .take_if(|(kind, _)| *kind == request.kind);
        let Some((kind, ago)) = behind else {
            return self.inner.list(request).await;
        };
        *self.late.lock().unwrap() = Some(kind);
        self.past(kind, ago).await
    }

    async fn put(&self, object: Object, precondition: Precondition) -> Result<Object> {
        self.inner.put(object, precondition).await
    }

    async fn put_status(&self, object: Object, precondition: Precondition) -> Result<Object> {
        self.inner.put_status(object, precondition).await
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Option<Object>> {
        self.inner.delete(key, precondition).await
    }

    async fn watch(&self, kind: Kind, from: Revision) -> Result<BoxStream<'static, Event>> {
        let events = self.inner.watch(kind, from).await?;
        let late = self.late.lock().unwrap().take_if(|late| *late == kind);
        Ok(match late {
            Some(_) => {
                let pause = futures::stream::once(tokio::time::sleep(LAG));
                pause.filter_map(async |()| None).chain(events).boxed()
            }
            None => events,
        })
    }
}
