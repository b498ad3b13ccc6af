//! Against real etcd processes, which the tests start, kill and start again. `cargo xtask test etcd` sees to it that there is an `etcd`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod etcd;
mod killed;
mod leader;
mod opening;
mod seat;
mod watching;
mod writing;

mod store {
    tappaas_testkit::store_conformance!(std::sync::Arc::new(crate::seat::Seat::take().await));
}
