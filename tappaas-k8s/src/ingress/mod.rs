//! [`IngressProvider`] over the Gateway API, or over `Ingress` where there is none.

mod form;
mod http_route;
mod ingress_rules;
mod mark;
mod reading;
mod redirect;
mod served;
mod settling;
mod shares;
mod switching;
#[cfg(test)]
mod testing;
mod writing;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use kube::{Api, Client, api::DynamicObject};
use tappaas_core::{
    Clock, Result,
    backend::{IngressCapabilities, IngressProvider, Route, RouteId, RouteStatus, Signal},
};

use self::{form::Form, mark::Place, settling::Settling};
use crate::{PlatformId, store::Namespaces};

/// Where the routes of a [`KubernetesIngress`] are served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IngressSettings {
    /// The Gateway that serves them, if the cluster has the Gateway API.
    pub gateway: Option<Gateway>,
    /// The ingress class that serves them otherwise.
    pub class: Option<String>,
    /// How long proxies may take to do what their controller has accepted. Nobody says when they do.
    pub settle: Duration,
}

impl IngressSettings {
    /// What proxies are given by default.
    pub const SETTLE: Duration = Duration::from_secs(1);
}

/// A Gateway that routes are attached to. It must allow routes from the namespaces of environments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gateway {
    /// The namespace that it is in.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its only listener that serves the routes; all do if there is none.
    pub section: Option<String>,
}

/// Keeps a route as an `HTTPRoute` (Gateway API 1.0 or later), or as an `Ingress`, in the namespace of its application's environment,
/// for the cluster's own proxies to serve.
///
/// - Endpoints are services of that namespace; another namespace's are `Denied`. What cannot be expressed is `Unsupported`, see
///   [`IngressCapabilities`]: newer versions of the Gateway API know the statuses 307 and 308, an `Ingress` has one endpoint and neither
///   takes off a prefix nor redirects.
/// - Nothing waits for an endpoint (`hold` is taken for zero), and nobody tells what is in flight or how traffic flows.
/// - A route counts as seen once the Gateway has accepted it and [`IngressSettings::settle`] has passed. Of an `Ingress` nobody tells even
///   whether it is accepted: there it is that time alone. A process that has just started waits once more, but for what nobody wrote to
///   for a minute longer.
/// - An `HTTPRoute` for `*.example.com` also gets `a.b.example.com` if no other route is for that or for `*.b.example.com`: who has a host to
///   itself always wins. A request for a host that a route names is answered 404 if no route of that very host has its path, even if a
///   wildcard has.
/// - A Gateway's proxies learn of services and of routes in no certain order. So services that come are named before they get requests, and
///   those that go after they got the last: `apply` then takes a few times [`IngressSettings::settle`]. Where that cannot be, requests may be
///   answered 503 for a moment: if the Gateway does not serve the route as it is, if there are more than 16 services in all, and when a
///   redirect is replaced.
/// - Whether a host and path is taken is looked up before it is written. Of two that were written in the same moment the Gateway API serves
///   the older one; host claims keep platforms from doing that.
/// - It reads and creates namespaces, creates and patches services, and gets, lists, creates, patches and deletes the routes' objects.
/// - What somebody else changed is [`pending`](RouteStatus::pending) until the route is applied again, which corrects it.
pub struct KubernetesIngress {
    client: Client,
    platform: PlatformId,
    form: Form,
    namespaces: Namespaces,
    settling: Settling,
    clock: Arc<dyn Clock>,
}

impl KubernetesIngress {
    /// The ingress of a platform in the cluster that `client` speaks to, by whichever of the two ways it serves.
    ///
    /// # Errors
    /// `Unsupported` if it serves none that the settings name, `Invalid` if they name none.
    pub async fn connect(
        client: Client,
        platform: PlatformId,
        settings: IngressSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        Ok(Self {
            clock,
            form: served::form(&client, &settings).await?,
            namespaces: Namespaces::new(client.clone(), platform.clone()),
            settling: Settling::new(settings.settle),
            client,
            platform,
        })
    }

    fn place(&self, id: &RouteId) -> Place {
        Place::of(&self.platform, id)
    }

    fn api(&self, place: &Place) -> Api<DynamicObject> {
        let resource = self.form.resource();
        Api::namespaced_with(self.client.clone(), &place.namespace, &resource)
    }

    fn api_everywhere(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &self.form.resource())
    }
}

impl fmt::Debug for KubernetesIngress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesIngress")
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl IngressProvider for KubernetesIngress {
    fn capabilities(&self) -> IngressCapabilities {
        self.form.capabilities()
    }

    async fn apply(&self, route: &Route) -> Result<()> {
        self.switch(route).await
    }

    async fn observe(&self, id: &RouteId) -> Result<Option<RouteStatus>> {
        self.status(id).await
    }

    async fn list(&self) -> Result<Vec<RouteId>> {
        self.ids().await
    }

    async fn remove(&self, id: &RouteId) -> Result<()> {
        self.delete(id).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, Signal>> {
        Ok(stream::pending().boxed())
    }
}
