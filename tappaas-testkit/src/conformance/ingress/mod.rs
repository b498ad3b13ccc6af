//! The contract of [`IngressProvider`], case by case.

mod changing;
mod forwarding;
mod matching;
mod observing;
mod scene;

use std::{any::Any, fmt, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use tappaas_core::backend::{Endpoint, IngressProvider};
use tokio::sync::watch;

use super::Failure;

pub use changing::*;
pub use forwarding::*;
pub use matching::*;
pub use observing::*;
pub use scene::Scene;
pub(crate) use scene::{HOST, target};

/// What the suite needs to know of an ingress. One fixture is one ingress without any route.
#[async_trait]
pub trait IngressFixture: fmt::Debug + Send + Sync {
    /// The ingress.
    fn ingress(&self) -> Arc<dyn IngressProvider>;

    /// Starts a server that answers every GET with 200 and the body `NAME PATH`; where the path starts with `/held`, once it passed
    /// the gate.
    async fn serve(&self, name: &str, gate: &Gate) -> Result<Server, Failure>;

    /// Sends a GET from outside, to a host.
    ///
    /// # Errors
    /// There is no answer.
    async fn request(&self, host: &str, path: &str) -> Result<Reply, Failure>;

    /// Sends a GET from inside, to an address that the ingress listens on.
    ///
    /// # Errors
    /// There is no answer.
    async fn request_inside(&self, address: SocketAddr, path: &str) -> Result<Reply, Failure>;

    /// An address that the ingress can listen on and nobody listens on now.
    async fn inner_address(&self) -> Result<SocketAddr, Failure>;
}

/// A server that a fixture started. Dropping it ends it: its endpoint refuses connections.
pub struct Server {
    /// Where it is.
    pub endpoint: Endpoint,
    /// What ends it when dropped.
    pub running: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.endpoint).finish()
    }
}

/// What a request is answered with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// The header `Location`.
    pub location: Option<String>,
}

/// Holds requests until it is opened. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<(bool, usize)>>);

impl Gate {
    /// Creates a closed gate.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new((false, 0))))
    }

    /// Waits until the gate is open.
    pub async fn pass(&self) {
        self.0.send_modify(|(_, arrived)| *arrived += 1);
        // The sender lives in `self`.
        let mut state = self.0.subscribe();
        let _opened = state.wait_for(|(open, _)| *open).await;
    }

    /// Lets everybody pass from now on.
    pub fn open(&self) {
        self.0.send_modify(|(open, _)| *open = true);
    }

    /// Waits until so many have arrived at the gate.
    pub async fn arrived(&self, count: usize) {
        let mut state = self.0.subscribe();
        let _arrived = state.wait_for(|(_, arrived)| *arrived >= count).await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// Expands to a test for each sentence of the contract of [`IngressProvider`](tappaas_core::backend::IngressProvider).
///
/// Takes an expression for an [`IngressFixture`](crate::conformance::ingress::IngressFixture), which may `.await`, and before it,
/// optionally, the attribute that makes a test: `#[tokio::test]` if none is given.
#[macro_export]
macro_rules! ingress_conformance {
    (#[$test:meta] $fixture:expr) => {
        $crate::conformance_tests! { ingress, $test, $fixture,
            a_route_applied_again_changes_nothing
            an_older_route_is_refused
            a_route_generation_with_other_content_is_refused
            a_change_of_routes_is_atomic
            no_new_request_goes_to_an_endpoint_left_out
            an_endpoint_drains_as_long_as_requests_are_in_flight
            a_request_in_flight_is_not_disturbed
            a_removed_route_answers_404
            the_longest_path_prefix_wins_by_whole_segments
            an_exact_host_wins_over_a_wildcard
            a_wildcard_stands_for_exactly_one_label
            a_host_without_a_route_answers_404
            a_host_and_path_belong_to_one_route
            a_prefix_is_stripped_if_asked_for
            a_redirect_keeps_the_rest_of_the_path
            endpoints_of_a_target_share_its_requests
            targets_share_requests_by_weight
            a_request_that_cannot_connect_is_tried_elsewhere
            a_route_without_endpoints_answers_503
            a_request_is_held_until_there_is_an_endpoint
            an_endpoint_that_cannot_be_opened_is_refused
            a_route_that_cannot_be_served_is_refused
            a_route_from_inside_reaches_its_target
            a_request_in_flight_from_inside_is_not_disturbed
            an_unknown_route_is_not_observed_and_may_be_removed
            list_names_every_route
            watch_tells_how_traffic_flows
            watch_tells_that_a_request_waits
        }
    };
    ($fixture:expr) => {
        $crate::ingress_conformance!(
            #[tokio::test]
            $fixture
        );
    };
}
