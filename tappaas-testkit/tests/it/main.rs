//! The integration tests of `tappaas-testkit`.

mod clock;
mod complete;
mod conformance;
mod faulty;
mod sieve;
