//! The embedded registry over HTTP, as the OCI distribution specification 1.1 has it.
//!
//! Pull, push (monolithic, streamed and chunked), mount, tag list, and deletion of tags, manifests and blobs. It has **no
//! authentication**: whoever can connect can read and change everything. Give it a unix socket that only its owner can
//! open, or a loopback address on a machine without other users, and nothing else. What [`pulls`] serves is for other
//! machines: they get what they know the digest of.
//!
//! Not offered: the referrers API (clients fall back to the tag schema) and digests other than SHA-256.

mod blobs;
mod body;
mod endpoint;
mod failure;
mod listen;
mod manifests;
mod range;
mod router;
mod sessions;
mod uploads;

pub use listen::serve;
pub use router::{pulls, router};
