//! The integration tests of `tappaas-testkit`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clock;
mod complete;
mod conformance;
mod faulty;
mod sieve;
