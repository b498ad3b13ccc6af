//! The integration tests of `tappaas-core`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod conformance;
mod controller;
mod durable;
mod manifest;
mod memory;
#[cfg(feature = "mock")]
mod mock;
mod placement;
mod store;
