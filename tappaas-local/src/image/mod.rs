//! Images on this machine: pulled from a registry by digest, each layer unpacked once into a folder of its own.
//!
//! A layer's folder is what an overlay file system takes as a lower layer. Ownership and modes of a layer are dropped but for
//! "executable": each process runs as a user of its application's own, which no image can know of, so every file is readable and
//! none is writable. Devices, pipes and set-user-id bits mean nothing inside a sandbox and are left out.

mod documents;
pub(crate) mod labels;
mod layer;
mod pins;
mod source;
mod store;
mod whiteout;

pub(crate) use self::documents::ImageConfig;
pub(crate) use self::store::{Images, Unpacked};
