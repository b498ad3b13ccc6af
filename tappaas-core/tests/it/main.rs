//! The integration tests of `tappaas-core`.

mod manifest;
mod memory;
