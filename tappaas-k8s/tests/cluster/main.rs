//! Against a real API server. `cargo xtask test kubernetes` starts one, and says by `TAPPAAS_TESTBED` where it is told of.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod ingress;
mod kinds;
mod leader;
mod limits;
mod neighbours;
mod node;
mod permissive;
mod platform;
mod preflight;
mod runtimes;
mod safe;
mod scaling;
mod seat;
mod stage;
mod storage;
mod strangers;
mod volumes;

mod store {
    tappaas_testkit::store_conformance!(std::sync::Arc::new(crate::seat::Seat::take().await));
}

mod secrets {
    tappaas_testkit::secrets_conformance!(crate::safe::fresh().await);
}

mod scheduler {
    tappaas_testkit::scheduler_conformance!(crate::node::Node::take().await);
}
