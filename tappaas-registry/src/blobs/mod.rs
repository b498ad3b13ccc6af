//! Content addressed by its SHA-256, on a plain directory.
//!
//! A blob is written to a staged file while it is hashed, synced, renamed to its address, and the directory synced: at
//! its address there is either nothing or the whole verified content, whenever the process or the machine dies.

mod content;
pub(crate) mod disk;
mod pins;
mod reader;
mod writer;

pub use reader::Chunks;
pub use writer::Writer;

pub(crate) use content::Blobs;
pub(crate) use disk::{Disk, Staging};
pub(crate) use pins::{Pins, Sweep};
pub(crate) use reader::{part, verified};
pub(crate) use writer::Received;

use crate::{Error, Result};

/// Runs work that touches the disk or hashes much where it does not hold up the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(Error::Stopped),
        },
    }
}
