//! The operator on a real cluster, asked as people ask it: with `kubectl` and `tappaas`. Run by `cargo xtask test kubernetes`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod faults;
mod image;
mod inside;
mod isolation;
mod kubectl;
mod losses;
mod tenancy;
mod trouble;
mod world;
