//! The registry from outside: over its wire protocol, through its traits, and killed in the middle of its work.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a finding")]

mod blobs;
#[cfg(feature = "client")]
mod client;
mod collection;
mod conformance;
mod content;
mod crash;
mod embedded;
mod limits;
mod manifests;
mod oci_layout;
mod pulls;
mod uploads;
mod world;
