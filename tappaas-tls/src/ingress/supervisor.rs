use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tappaas_core::{Chain, Error, ErrorKind, Result};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
    sync::Mutex,
    time::timeout,
};

use crate::{
    config::EdgeConfig,
    control::{Ask, Connection, Hello, PROTOCOL, Tell},
    edge::{EDGE_ARGUMENT, READY, TAKE_OVER_ARGUMENT, write_config},
};

/// Time for a new edge to serve.
const START_MAX: Duration = Duration::from_secs(30);
/// The edge's own log is put aside beyond this size when an edge is started.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// What an edge may say about why it did not start.
const REASON_BYTES_MAX: u64 = 4 << 10;

/// Sees to it that an edge runs as a process of its own, and talks to it.
///
/// An edge that runs already is adopted. One of another version or configuration hands its sockets over to a new one.
#[derive(Debug)]
pub(super) struct Supervisor {
    state: PathBuf,
    helper: PathBuf,
    config: EdgeConfig,
    connection: Mutex<Option<Connection>>,
}

impl Supervisor {
    pub(super) fn new(state: PathBuf, helper: PathBuf, config: EdgeConfig) -> Self {
        Self {
            state,
            helper,
            config,
            connection: Mutex::default(),
        }
    }

    /// Asks the edge. A connection that broke is replaced once, and the question asked again: all of them can be asked twice.
    ///
    /// # Errors
    /// What the edge refuses with; `Unavailable` if there is none and none can be started.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Tell> {
        let mut slot = self.connection.lock().await;
        // Out of the slot while it is asked: of a question that is given up the answer stays in the connection, and the next question
        // would take it for its own.
        if let Some(mut connection) = slot.take() {
            let answered = connection.ask(ask).await;
            if !is_unavailable(&answered) {
                *slot = Some(connection);
                return answered;
            }
        }
        let mut connection = self.connect().await?;
        let answered = connection.ask(ask).await;
        if !is_unavailable(&answered) {
            *slot = Some(connection);
        }
        answered
    }

    /// Who the edge is.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) async fn hello(&self) -> Result<Hello> {
        match self.ask(&Ask::Hello).await? {
            Tell::Hello(hello) => Ok(hello),
            other => Err(crate::control::unexpected(&other)),
        }
    }

    /// Has the edge stop listening, and waits until it has gone.
    ///
    /// # Errors
    /// `Unavailable` if it does not go.
    pub(super) async fn stop(&self, drain: Duration) -> Result<()> {
        let mut slot = self.connection.lock().await;
        *slot = None;
        let mut connection = match Connection::open(&self.state).await {
            Ok(connection) => connection,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let drain_ms = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
        connection.ask(&Ask::Leave { drain_ms }).await?;
        // This connection ends with the process.
        let gone = async { while connection.next().await.is_some() {} };
        let still_there = |_| Error::unavailable("the edge does not go");
        timeout(drain + START_MAX, gone).await.map_err(still_there)
    }

    /// A connection of its own, for a `Watch`.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) async fn connect_apart(&self) -> Result<Connection> {
        // One at a time: two that find no edge would start two.
        let _slot = self.connection.lock().await;
        self.connect().await
    }

    async fn connect(&self) -> Result<Connection> {
        let mut connection = match Connection::open(&self.state).await {
            Ok(connection) => connection,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.spawn(None).await?;
                return Connection::open(&self.state).await;
            }
            Err(error) => return Err(error),
        };
        let hello = connection.hello().await?;
        if hello.current(&self.config) {
            return Ok(connection);
        }
        drop(connection);
        match self.spawn(Some(TAKE_OVER_ARGUMENT)).await {
            Ok(()) => {}
            Err(error) if hello.protocol == PROTOCOL => {
                tracing::warn!(error = %Chain(&error), "the running edge could not be replaced and is kept as it is");
            }
            Err(error) => return Err(error),
        }
        Connection::open(&self.state).await
    }

    /// Starts an edge and waits until it serves.
    async fn spawn(&self, argument: Option<&str>) -> Result<()> {
        let failed = |error: io::Error| {
            Error::unavailable(format!(
                "cannot start the edge by {}",
                self.helper.display()
            ))
            .with_source(error)
        };
        write_config(&self.state, &self.config).map_err(failed)?;
        let log = log_file(&self.state.join("edge.log")).map_err(failed)?;
        let mut child = Command::new(&self.helper)
            .arg(EDGE_ARGUMENT)
            .arg(&self.state)
            .args(argument)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let said = child.stdout.take();
        // The edge outlives this process; while both live somebody must collect it.
        tokio::spawn(async move { child.wait().await });
        let mut line = String::new();
        if let Some(said) = said {
            let read = async {
                BufReader::new(said.take(REASON_BYTES_MAX))
                    .read_line(&mut line)
                    .await
            };
            timeout(START_MAX, read)
                .await
                .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
                .map_err(failed)?;
        }
        match line.trim() {
            READY => Ok(()),
            "" => Err(failed(io::Error::other(
                "it ended without a word; its main must call `helper_main` first",
            ))),
            reason => Err(failed(io::Error::other(reason.to_owned()))),
        }
    }
}

/// The log of edges, which is put aside when it is long.
fn log_file(path: &Path) -> io::Result<File> {
    if std::fs::metadata(path).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// Such an answer may also mean that the connection is broken, or that the answer is late.
fn is_unavailable(answered: &Result<Tell>) -> bool {
    matches!(answered, Err(error) if error.kind() == ErrorKind::Unavailable)
}
