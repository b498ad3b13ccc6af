use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Lets the event loop tell when a file is ready.
#[expect(
    deprecated,
    reason = "its replacement is an unsafe function, whose condition an `OwnedFd` meets: it stays open, and the same, while owned"
)]
pub(crate) fn watch(file: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(file, interest)
}
