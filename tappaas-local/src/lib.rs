//! Placeholder.

pub mod archive;
mod fileserver;
