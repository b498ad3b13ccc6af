//! Everything about one machine, in one binary.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and its programs print and wait"
)]

mod archive;
mod builder;
mod instance;
mod scheduler;
