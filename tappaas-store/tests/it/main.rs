//! The integration tests of `tappaas-store`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod fixture;
mod reopening;
