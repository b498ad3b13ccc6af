//! Tests of the whole: this is the root package's only integration-test binary.

mod samples;
mod tidy;
