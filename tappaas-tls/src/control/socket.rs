use std::{
    fs::{File, Permissions},
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

/// The control socket's name in an edge's state directory.
const NAME: &str = "edge.sock";

/// Opens the control socket of the edge in `state`, for its owner alone. A socket that is left over there is removed.
///
/// # Errors
/// When the directory cannot be written.
pub(crate) fn bind(state: &Path) -> io::Result<UnixListener> {
    let reach = Reach::new(state)?;
    match std::fs::remove_file(&reach.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&reach.path)?;
    std::fs::set_permissions(&reach.path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the edge in `state`.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` if none runs there.
pub(crate) async fn connect(state: &Path) -> io::Result<UnixStream> {
    let reach = Reach::new(state)?;
    UnixStream::connect(&reach.path).await
}

/// Removes the control socket of the edge in `state`, which no longer listens.
pub(crate) fn remove(state: &Path) {
    // A socket left over is removed by the next edge.
    let _ = std::fs::remove_file(state.join(NAME));
}

/// A path to the socket that is short enough for a socket address (108 bytes), however deep the directory is.
struct Reach {
    path: PathBuf,
    _directory: File,
}

impl Reach {
    fn new(state: &Path) -> io::Result<Self> {
        let directory = File::open(state)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()));
        Ok(Self {
            path,
            _directory: directory,
        })
    }
}
