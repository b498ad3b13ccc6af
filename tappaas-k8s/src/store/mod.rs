//! [`Store`] over custom resources: the API server is the database.

mod form;
mod listing;
mod namespaces;
pub(crate) mod place;
mod reading;
mod watching;
mod writing;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use kube::{Api, Client, api::DynamicObject};
use tappaas_core::{
    Clock, Error, Event, Ids, Key, Kind, ListRequest, Object, Page, Precondition, Result, Revision,
    Store,
    store::{decide_delete, decide_put, decide_put_status},
};

pub(crate) use self::{form::plural, namespaces::Namespaces, reading::chunks};
use self::{listing::Listings, place::Place, writing::Part};

use crate::PlatformId;

/// The API group of the custom resources.
pub const GROUP: &str = "tappaas.dev";

/// Keeps objects as custom resources of a Kubernetes cluster (1.33 or later), whose definitions must be there.
///
/// Those of an environment are in a namespace of its own, which is made when it is first written to.
pub struct KubernetesStore {
    client: Client,
    group: String,
    platform: PlatformId,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    namespaces: Arc<Namespaces>,
    listings: Listings,
}

impl KubernetesStore {
    /// A store in the cluster that `client` speaks to, with custom resources of the API group `group`, usually [`GROUP`].
    pub fn new(
        client: Client,
        group: impl Into<String>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Self {
        let group = group.into();
        let platform = PlatformId::of_group(&group);
        Self {
            namespaces: Arc::new(Namespaces::new(client.clone(), platform.clone())),
            client,
            group,
            platform,
            clock,
            ids,
            listings: Listings::default(),
        }
    }

    fn place(&self, key: &Key) -> Place {
        place::place(&self.platform, key)
    }

    fn api(&self, kind: Kind, place: &Place) -> Api<DynamicObject> {
        match &place.namespace {
            Some(namespace) => self.api_in(kind, namespace),
            None => self.api_everywhere(kind),
        }
    }

    fn api_in(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        let resource = form::resource(&self.group, kind);
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    fn api_everywhere(&self, kind: Kind) -> Api<DynamicObject> {
        let resource = form::resource(&self.group, kind);
        Api::all_with(self.client.clone(), &resource)
    }
}

impl fmt::Debug for KubernetesStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesStore")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for KubernetesStore {
    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        key.check()?;
        self.read(key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Page> {
        if request.limit == 0 {
            return Err(Error::invalid("a listing needs a limit of at least 1"));
        }
        if request.after.is_none() {
            let (objects, revision) = self.gather(request.kind, &request.scope).await?;
            let id = self.ids.unique();
            return Ok(self
                .listings
                .begin(id, request, objects, revision, self.clock.now()));
        }
        self.listings.go_on(request, self.clock.now())
    }

    async fn put(&self, object: Object, precondition: Precondition) -> Result<Object> {
        let key = object.key();
        form::check(&object)?;
        let decide = |existing: Option<&Object>| {
            let now = self.clock.now();
            decide_put(existing, object.clone(), precondition, String::new, now)
        };
        let written = self.write(&key, precondition, Part::Whole, decide).await?;
        written.ok_or_else(|| Error::internal(format!("{key} was written and is not there")))
    }

    async fn put_status(&self, object: Object, precondition: Precondition) -> Result<Object> {
        let key = object.key();
        form::check_numbers(&object, "status", &object.status)?;
        if let Precondition::Revision(revision) = precondition
            && let Some(written) = self.replace_status(&key, &object, revision).await?
        {
            return Ok(written);
        }
        let decide =
            |existing: Option<&Object>| decide_put_status(existing, object.clone(), precondition);
        let written = self.write(&key, precondition, Part::Status, decide).await?;
        written.ok_or_else(|| Error::internal(format!("{key} was written and is not there")))
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Option<Object>> {
        let decide = |existing: Option<&Object>| {
            decide_delete(existing, key, precondition, self.clock.now())
        };
        self.write(key, precondition, Part::Deletion, decide).await
    }

    async fn watch(&self, kind: Kind, from: Revision) -> Result<BoxStream<'static, Event>> {
        let api = self.api_everywhere(kind);
        let reached = self.reached(kind).await?;
        watching::watch(api, kind, Arc::clone(&self.namespaces), from, reached).await
    }
}
