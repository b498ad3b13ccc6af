//! The edge on real sockets: in this process, and as a process of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod client;
mod conformance;
mod dial;
mod forwarding;
mod hostile;
mod inner;
mod origin;
mod process;
mod retrying;
mod rig;
mod slow;
mod swap;
mod upgrade;
