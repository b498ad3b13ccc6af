//! The builder, on the machine's own toolchains and without a network. Where a toolchain is missing, the test is that it is named.
#![expect(clippy::print_stderr, reason = "what is not tested here is said aloud")]

mod bench;
mod conformance;
mod files;
mod images;
mod languages;
mod limits;
mod queue;
mod sites;
