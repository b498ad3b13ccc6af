use std::{io, path::Path, time::Duration};

use tappaas_core::{Error, Result};
use tokio::{net::UnixStream, time::timeout};

use super::{Ask, Hello, Tell, connect, frame, protocol::HandedDoor, receive_listeners};
use crate::table::Table;

/// Time for an edge to answer. It is a neighbour; only a machine without any breath to spare takes that long.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A connection to an edge in another process.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
}

/// What an edge hands over.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) table: Table,
    pub(crate) http: Vec<std::net::TcpListener>,
    pub(crate) inner: Vec<std::net::TcpListener>,
    pub(crate) control: std::os::unix::net::UnixListener,
}

impl Connection {
    /// Connects to the edge in `state`.
    ///
    /// # Errors
    /// `NotFound` if none runs there; `Unavailable` if it cannot be reached.
    pub(crate) async fn open(state: &Path) -> Result<Self> {
        match timeout(ANSWER_MAX, connect(state)).await {
            Ok(Ok(stream)) => Ok(Self { stream }),
            Ok(Err(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Err(
                    Error::not_found(format!("no edge runs in {}", state.display()))
                        .with_source(error),
                )
            }
            Ok(Err(error)) => Err(lost(error)),
            Err(_) => Err(lost(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// What the edge refuses with; `Unavailable` if it cannot be reached any more, and this connection is of no more use then.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Result<Tell> {
        let answer = async {
            frame::write(&mut self.stream, ask).await?;
            frame::read(&mut self.stream).await
        };
        match timeout(ANSWER_MAX, answer).await {
            Ok(Ok(Some(Tell::Refused { kind, message }))) => Err(kind.error(message)),
            Ok(Ok(Some(tell))) => Ok(tell),
            Ok(Ok(None)) => Err(lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(Err(error)) => Err(lost(error)),
            Err(_) => Err(lost(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Who the edge is.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) async fn hello(&mut self) -> Result<Hello> {
        match self.ask(&Ask::Hello).await? {
            Tell::Hello(hello) => Ok(hello),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits for the next answer to a `Watch`, or for the end of the edge (`None`).
    pub(crate) async fn next(&mut self) -> Option<Tell> {
        frame::read(&mut self.stream).await.ok().flatten()
    }

    /// Whether the far side is gone, rather than silent.
    pub(crate) fn closed(&self) -> bool {
        let mut byte = [0];
        match self.stream.try_read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Ends the process at the far side.
    pub(crate) fn kill(&self) {
        let pid = self
            .stream
            .peer_cred()
            .ok()
            .and_then(|peer| peer.pid())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // One that has gone needs no end.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Has the edge hand over its listening sockets. It goes on serving until it is told to `Commit`.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) async fn take_over(&mut self) -> Result<Handed> {
        let (table, doors) = match self.ask(&Ask::TakeOver).await? {
            Tell::Doors { table, doors } => (table, doors),
            other => return Err(unexpected(&other)),
        };
        let (listeners, control) = receive_listeners(&self.stream, doors.len())
            .await
            .map_err(lost)?;
        let mut handed = Handed {
            table,
            http: Vec::new(),
            inner: Vec::new(),
            control,
        };
        for (door, listener) in doors.iter().zip(listeners) {
            match door {
                HandedDoor::Http => handed.http.push(listener),
                HandedDoor::Inner => handed.inner.push(listener),
                HandedDoor::Control => {}
            }
        }
        Ok(handed)
    }
}

/// The edge went away, or speaks another protocol.
pub(crate) fn lost(error: io::Error) -> Error {
    Error::unavailable("the edge does not answer").with_source(error)
}

/// The edge gave an answer to another question.
pub(crate) fn unexpected(tell: &Tell) -> Error {
    let name = format!("{tell:?}");
    let name = name.split(['(', '{', ' ']).next().unwrap_or_default();
    Error::internal(format!("the edge gave an unexpected answer: {name}"))
}
