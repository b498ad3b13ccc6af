//! Tests of the whole: this is the root package's only integration-test binary.

#[cfg(feature = "program")]
mod program;
mod samples;
mod tidy;
