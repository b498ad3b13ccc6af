//! What servers and shims say to each other: frames of four bytes of length (big-endian) and that much JSON.
//!
//! Each request names the version it is written in. A shim outlives the server that started it, so a server speaks every version
//! from [`OLDEST`] on, and a shim answers its own version alone.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tappaas_core::{Error, ErrorKind, backend::Usage};
use tokio::net::UnixStream;

use super::{passing, ports::Listener};
use crate::{
    instance::Status,
    sandbox::{IdMap, Spec},
};

/// The version spoken here.
pub(crate) const VERSION: u32 = 1;
/// The oldest version that a server still speaks.
pub(crate) const OLDEST: u32 = 1;

/// The largest frame between a server and a running shim.
pub(crate) const FRAME_MAX: usize = 64 << 10;

/// The socket for requests, in the instance's folder.
pub(crate) const CONTROL: &str = "control.sock";
/// The socket for connections into the instance, in its folder.
pub(crate) const DIAL: &str = "dial.sock";

/// What a server asks of a running shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) version: u32,
    pub(crate) call: Call,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Call {
    /// Answered by one `Status`.
    Status,
    /// Answered by a `Status` now and after each change.
    Subscribe,
    /// Stops for good, within `grace` instead of the spec's. Answered by a `Status` once all is cleaned up.
    Stop { grace: Option<Duration> },
    /// Kills the process for its restart policy to start it again. Answered by `Done`.
    Restart,
    /// Answered by `Usage`.
    Usage,
    /// Answered by `Listeners`.
    Listeners,
    /// Runs a command inside, with the three files passed along as its standard streams. Answered by `Executing`, with the
    /// terminal if one was asked for, and then `Executed`. Closing the connection kills the command.
    Exec {
        command: Vec<String>,
        workdir: Option<PathBuf>,
        /// Columns and rows.
        terminal: Option<(u16, u16)>,
    },
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    Status(Box<Status>),
    Usage(Usage),
    Listeners(Vec<Listener>),
    Executing { pid: i32 },
    Executed { code: i32 },
    Done,
    Failed { kind: String, message: String },
}

/// What a starting shim says to the server, on its standard input, which is a socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Progress {
    /// Write these ids of my user namespace. Answered by an empty frame.
    Map(IdMap),
    /// Connect my network namespace with this `pasta`. Answered by an empty frame.
    Connect { pasta: PathBuf },
    /// The process runs.
    Started(Box<Status>),
    /// Nothing was left behind.
    Failed { kind: String, message: String },
}

/// The first frame to a starting shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) version: u32,
    pub(crate) spec: Spec,
}

/// Sends one frame.
pub(crate) async fn send<T: Serialize>(
    stream: &UnixStream,
    frame: &T,
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(frame).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    passing::send(stream, &bytes, files).await
}

/// Receives one frame of at most `most` bytes, with the files that came along.
pub(crate) async fn receive<T: DeserializeOwned>(
    stream: &UnixStream,
    most: usize,
) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut files = Vec::new();
    let mut length = [0; 4];
    passing::receive_all(stream, &mut length, &mut files).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes exceeds {most}"),
        ));
    }
    let mut body = vec![0; length];
    passing::receive_all(stream, &mut body, &mut files).await?;
    let frame = serde_json::from_slice(&body)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok((frame, files))
}

impl Reply {
    pub(crate) fn failed(error: &Error) -> Self {
        let (kind, message) = dissect(error);
        Self::Failed { kind, message }
    }
}

impl Progress {
    pub(crate) fn failed(error: &Error) -> Self {
        let (kind, message) = dissect(error);
        Self::Failed { kind, message }
    }
}

fn dissect(error: &Error) -> (String, String) {
    (
        format!("{:?}", error.kind()),
        tappaas_core::Chain(error).to_string(),
    )
}

/// The error that a shim sent. A kind that a newer shim knows alone is a defect to this server.
pub(crate) fn error(kind: &str, message: String) -> Error {
    let known = [
        ErrorKind::AlreadyExists,
        ErrorKind::Conflict,
        ErrorKind::Denied,
        ErrorKind::Exhausted,
        ErrorKind::Expired,
        ErrorKind::Invalid,
        ErrorKind::NotFound,
        ErrorKind::Unavailable,
        ErrorKind::Unsupported,
    ];
    let kind = known.into_iter().find(|known| format!("{known:?}") == kind);
    Error::new(kind.unwrap_or(ErrorKind::Internal), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_larger_than_its_bound_is_refused_before_memory_is_taken_for_it() {
        let (near, far) = UnixStream::pair().unwrap();
        passing::send(&near, &u32::MAX.to_be_bytes(), &[])
            .await
            .unwrap();
        let error = receive::<Request>(&far, FRAME_MAX).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn files_arrive_with_their_frame() {
        use std::os::fd::AsFd;
        let (near, far) = UnixStream::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let request = Request {
            version: VERSION,
            call: Call::Usage,
        };
        send(&near, &request, &[null.as_fd(); 3]).await.unwrap();
        let (received, files) = receive::<Request>(&far, FRAME_MAX).await.unwrap();
        assert!(matches!(received.call, Call::Usage));
        assert_eq!(files.len(), 3);
    }
}
