//! The integration tests of `tappaas-core`.

mod durable;
mod manifest;
mod memory;
mod store;
