//! The file server that images of static sites carry. Its source is `fileserver/src/main.rs`.

/// The program, for the architecture of this one.
pub(crate) const PROGRAM: &[u8] = include_bytes!(env!("TAPPAAS_FILESERVER"));

/// It needs nothing of the machine it runs on, not even a C library.
pub(crate) fn stands_alone() -> bool {
    env!("TAPPAAS_FILESERVER_STATIC") == "true"
}
