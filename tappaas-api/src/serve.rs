use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tappaas_core::{Error, Result};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{State, router};

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after a failure to accept, which is usually a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many failures to accept in a row are waited out.
const ACCEPT_FAILURES_MAX: u32 = 600;

/// The longest path a unix socket can have (`sun_path` less its final zero).
const PATH_MAX: usize = 107;

/// Makes a unix socket that its owner alone may open. A socket that nobody listens on is replaced.
///
/// # Errors
/// `AlreadyExists` if somebody listens there; `Invalid` if the path is too long for a socket; `Internal` if it cannot be made.
pub async fn listen(path: &Path) -> Result<UnixListener> {
    let shown = path.display();
    if path.as_os_str().len() > PATH_MAX {
        return Err(Error::invalid(format!(
            "`{shown}` is too long for a unix socket, which has at most {PATH_MAX} bytes; use a shorter data directory"
        )));
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(Error::already_exists(format!(
            "another server listens on `{shown}`"
        )));
    }
    bind(path)
        .map_err(|error| Error::internal(format!("cannot listen on `{shown}`")).with_source(error))
}

/// Serves the API until `shutdown` is ready, then lets requests end for as long as the limits say.
///
/// # Errors
/// `Unavailable` if the listener takes no connections for a minute. What goes wrong with a single connection ends that connection only.
pub async fn serve(
    listener: UnixListener,
    state: State,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let limits = state.limits;
    let service = TowerToHyperService::new(router(state));
    let room = Arc::new(Semaphore::new(limits.connections));
    let stop = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut failures = 0;
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let permit = room.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                failures = 0;
                let serving = connection(stream, service.clone(), stop.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                failures += 1;
                if failures > ACCEPT_FAILURES_MAX {
                    let message = "the API's socket takes no connections";
                    return Err(Error::unavailable(message).with_source(error));
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stop.cancel();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        tracing::debug!("requests that go on are broken off");
    }
    Ok(())
}

async fn connection(
    stream: UnixStream,
    service: TowerToHyperService<axum::Router>,
    stop: CancellationToken,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Binds in a folder that nobody else can enter, and moves the socket to its place once its mode is right.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let hidden = parent.unwrap_or_else(|| Path::new(".")).join(".s");
    match fs::remove_dir_all(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::DirBuilder::new().mode(0o700).create(&hidden)?,
    }
    let inside = hidden.join("s");
    let listener = UnixListener::bind(&inside)?;
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o600))?;
    fs::rename(&inside, path)?;
    fs::remove_dir(&hidden)?;
    Ok(listener)
}
