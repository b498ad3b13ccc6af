//! Which repository has which blobs, manifests and tags, as small files.
//!
//! ```text
//! blobs/sha256/ab/abcd…                  content, whoever has it
//! repositories/team/hello/_blobs/abcd…   empty: this repository has that blob
//! repositories/team/hello/_manifests/ef… the media type of a manifest it has
//! repositories/team/hello/_tags/latest   the digest of a manifest it has
//! uploads/                               what nobody sees yet
//! ```
//!
//! Each file is durable before anything that needs it is written: blob, its entry, manifest, tag.

mod collect;
mod manifest;
mod manifests;
mod repositories;
mod verify;

pub use collect::Collected;
pub use manifest::MediaType;
pub use verify::Fault;

pub(crate) use collect::collect;
pub(crate) use manifest::{MANIFEST_BYTES_MAX, parse as parse_manifest};
pub(crate) use manifests::Manifest;
pub(crate) use repositories::Repositories;
pub(crate) use verify::verify;
