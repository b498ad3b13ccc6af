use std::{fmt, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Name, Result,
    backend::Endpoint,
    model::{ApplicationKey, Host},
};

/// Brings requests to instances.
///
/// # Contract
/// - `apply` is idempotent, and refuses a generation lower than the last one it took, and the same generation with other content, with `Conflict`.
/// - A change is atomic, where the capabilities say so: a request sees the old route or the new one, whole.
/// - Once [`RouteStatus::generation`] is what was applied, no new request goes to an endpoint that the new route does not name.
/// - An endpoint taken out of a route stays in [`RouteStatus::draining`] while requests or upgraded connections to it are in flight, and not longer,
///   where the capabilities say that it drains.
/// - A request in flight is not disturbed by any change of routes.
/// - Of the routes that match a request an exact host wins over a wildcard, then the longest path prefix.
/// - Endpoints of one target share its requests; targets share them in proportion to their weights; weight 0 gets none.
/// - A request that could not reach one endpoint is tried at another of the same target, if that is safe, where the capabilities say that it retries.
/// - A route without endpoints answers 503, after its `hold` where the capabilities say that it holds; a host without a route answers 404.
/// - A route of which the capabilities deny something is refused with `Unsupported`: a kind of endpoint or frontend, several endpoints, a prefix to
///   be stripped, the status of a redirect.
/// - A host and path that another route has is refused with `AlreadyExists`, whoever the other one belongs to.
/// - `observe` of an unknown route returns `None`; `remove` of one succeeds; `list` returns every route there is.
/// - `watch` yields signals of every route with traffic, at least every few seconds, where the capabilities say that it signals.
/// - Every method may be called again after any failure or a lost reply.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait IngressProvider: fmt::Debug + Send + Sync + 'static {
    /// What callers plan around.
    fn capabilities(&self) -> IngressCapabilities;

    /// Takes a route's desired state.
    async fn apply(&self, route: &Route) -> Result<()>;

    /// Says how a route is.
    async fn observe(&self, id: &RouteId) -> Result<Option<RouteStatus>>;

    /// Names every route there is, so that orphans are found.
    async fn list(&self) -> Result<Vec<RouteId>>;

    /// Takes a route away.
    async fn remove(&self, id: &RouteId) -> Result<()>;

    /// Tells how traffic flows, as it flows.
    async fn watch(&self) -> Result<BoxStream<'static, Signal>>;
}

/// What callers of an [`IngressProvider`] plan around.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressCapabilities {
    /// [`Endpoint::Address`] can be opened.
    pub address_endpoints: bool,
    /// [`Endpoint::Dial`] can be opened.
    pub dial_endpoints: bool,
    /// [`Endpoint::Service`] can be resolved.
    pub service_endpoints: bool,
    /// [`Frontend::Inner`] can be served.
    pub inner: bool,
    /// A change of a route is atomic; otherwise requests may be answered 503 while it takes place.
    pub atomic: bool,
    /// A wildcard stands for exactly one label; otherwise it stands for more as well, where no other route's host fits better.
    pub one_label: bool,
    /// Several endpoints can share the requests of a route.
    pub splits: bool,
    /// A route's path prefix can be taken off.
    pub strips: bool,
    /// The statuses that redirects can have, of 301, 302, 307 and 308.
    pub redirects: Vec<u16>,
    /// A request that could not reach one endpoint is tried at another.
    pub retries: bool,
    /// Requests wait while there is no endpoint; otherwise they are answered at once, whatever a route's `hold` is.
    pub holds: bool,
    /// [`RouteStatus::draining`] tells what is in flight; otherwise it is always empty, and says nothing.
    pub drains: bool,
    /// [`IngressProvider::watch`] tells how traffic flows; otherwise it tells nothing, and does not end.
    pub signals: bool,
}

impl IngressCapabilities {
    /// The statuses that a redirect may ask for.
    pub const REDIRECTS: [u16; 4] = [301, 302, 307, 308];
}

/// The identity of a [`Route`].
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct RouteId {
    /// Whose route this is.
    pub application: ApplicationKey,
    /// Unique within the application.
    pub name: Name,
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.application, self.name)
    }
}

/// Hosts and paths, and who answers them.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Which route.
    pub id: RouteId,
    /// Raised at each change of content.
    pub generation: u64,
    /// Where requests come in.
    pub frontend: Frontend,
    /// What becomes of them.
    pub action: Action,
}

impl Route {
    /// Decides whether an ingress whose last route was `last` takes this one. `Ok(false)`: it has it already.
    ///
    /// # Errors
    /// `Conflict`, as the contract of [`IngressProvider::apply`] says.
    pub fn supersedes(&self, last: &Self) -> Result<bool> {
        let same = self.frontend == last.frontend && self.action == last.action;
        match self.generation.cmp(&last.generation) {
            std::cmp::Ordering::Greater => Ok(true),
            std::cmp::Ordering::Equal if same => Ok(false),
            _ => Err(Error::conflict(format!(
                "route {} generation {}: generation {} was applied already",
                self.id, self.generation, last.generation
            ))),
        }
    }
}

/// Where the requests of a route come in.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Frontend {
    /// HTTP requests from outside to these hosts (a first label `*` stands for one label) whose path starts with this prefix,
    /// by whole segments.
    Http {
        /// At least one.
        hosts: Vec<Host>,
        /// Starts with `/`.
        path: String,
    },
    /// TCP connections from inside, to an address that only one application's instances can reach.
    Inner {
        /// Where to listen.
        listen: SocketAddr,
    },
}

/// What becomes of the requests of a route.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// They go to instances.
    Forward {
        /// Who shares them.
        targets: Vec<Target>,
        /// The route's path prefix is taken off before forwarding.
        strip_prefix: bool,
        /// How long a request waits while there is no endpoint, before 503, where the ingress holds requests.
        hold: Duration,
    },
    /// They are sent elsewhere.
    Redirect {
        /// An absolute URL or a path of the same host; the rest of the path and the query are added.
        to: String,
        /// 301, 302, 307 or 308.
        status: u16,
    },
}

/// Endpoints that share requests evenly.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its share, relative to the other targets'.
    pub weight: u32,
    /// Where its instances are.
    pub endpoints: Vec<Endpoint>,
}

/// How a route is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The generation that every new request sees; 0 while none is known to be.
    pub generation: u64,
    /// What was applied last, so that callers can tell whether it must change.
    pub route: Route,
    /// Why it is not known that every new request sees `route`; `None` once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// After what time `pending` may have passed by itself, of which nobody tells. `None`: applying the route again is what may help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_after: Option<Duration>,
    /// Endpoints no longer in the route that still have something in flight.
    pub draining: Vec<Draining>,
}

impl RouteStatus {
    /// Says whether the route has to be applied again: nobody may have done it, or somebody may have undone it.
    pub fn is_undone(&self) -> bool {
        self.pending.is_some() && self.look_after.is_none()
    }
}

/// An endpoint on its way out.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Draining {
    /// Which endpoint.
    pub endpoint: Endpoint,
    /// Requests and upgraded connections still in flight; more than 0.
    pub in_flight: u64,
}

/// How the traffic of a route flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signal {
    /// Which route.
    pub id: RouteId,
    /// Length of the window that the figures are about.
    pub window: Duration,
    /// Requests answered in the window.
    pub requests: u64,
    /// Of these, answers 500 to 599.
    pub errors: u64,
    /// Median time from request to answer's head.
    pub latency_p50: Duration,
    /// 99th percentile of the same.
    pub latency_p99: Duration,
    /// Requests in flight at the end of the window.
    pub in_flight: u64,
    /// Requests that wait because there is no endpoint.
    pub waiting: u64,
}
