//! Archives: how source travels to a builder, and how layers are written and read.
//!
//! [`pack`] gives the same bytes for the same files, wherever and whenever they are packed. Reading trusts nothing: an archive that two
//! readers could understand differently is refused, and [`unpack`] cannot leave its folder.

mod entries;
mod error;
mod fields;
mod pack;
mod rules;
mod text;
mod tree;
mod unpack;
mod walk;

pub(crate) use entries::{Entries, Entry, EntryKind};
pub use error::Error;
pub(crate) use pack::pack_layer;
pub use pack::{Packed, pack};
pub(crate) use text::{bytes as display_bytes, path as display_path};
pub(crate) use tree::Tree;
pub use unpack::{Owner, Unpacked, unpack};

/// Bounds of what an archive may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Files, folders and links.
    pub entries: usize,
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
}

impl Limits {
    /// What a source archive may hold: 100,000 entries, 1 GiB.
    pub const SOURCE: Self = Self {
        entries: 100_000,
        bytes: 1 << 30,
    };

    /// What one layer of an image may hold: 1,000,000 entries, 16 GiB.
    pub const LAYER: Self = Self {
        entries: 1_000_000,
        bytes: 16 << 30,
    };
}
