use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use tappaas_core::{Error, Result};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{UnixStream, unix::pipe},
};

use super::client::{answer, unexpected};
use crate::{
    sandbox::resize,
    shim::protocol::{self, FRAME_MAX, Reply, Request},
    watched::watch,
};

/// A command running inside an instance. Dropping it kills the command.
#[derive(Debug)]
pub struct Execution {
    /// Its input and output.
    pub streams: Streams,
    connection: UnixStream,
}

/// The input and output of a command.
#[derive(Debug)]
pub enum Streams {
    /// Its three standard streams. Dropping `stdin` closes it.
    Pipes {
        /// Standard input.
        stdin: pipe::Sender,
        /// Standard output.
        stdout: pipe::Receiver,
        /// Standard error.
        stderr: pipe::Receiver,
    },
    /// A terminal.
    Terminal(Terminal),
}

/// The outer end of a terminal inside an instance.
#[derive(Debug)]
pub struct Terminal(AsyncFd<OwnedFd>);

impl Execution {
    pub(super) async fn begin(
        connection: UnixStream,
        request: Request,
        terminal: bool,
    ) -> Result<Self> {
        let unable = |error: io::Error| {
            Error::internal("cannot prepare the streams of a command").with_source(error)
        };
        let streams = match terminal {
            true => {
                let (_, console) = begun(&connection, &request, &[]).await?;
                let console =
                    console.ok_or_else(|| Error::internal("the shim sent no terminal"))?;
                let terminal = Terminal::new(console).map_err(unable)?;
                Streams::Terminal(terminal)
            }
            false => {
                let (stdin, near_stdin) = io::pipe().map_err(unable)?;
                let (near_stdout, stdout) = io::pipe().map_err(unable)?;
                let (near_stderr, stderr) = io::pipe().map_err(unable)?;
                begun(
                    &connection,
                    &request,
                    &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
                )
                .await?;
                Streams::Pipes {
                    stdin: pipe::Sender::from_owned_fd(near_stdin.into()).map_err(unable)?,
                    stdout: pipe::Receiver::from_owned_fd(near_stdout.into()).map_err(unable)?,
                    stderr: pipe::Receiver::from_owned_fd(near_stderr.into()).map_err(unable)?,
                }
            }
        };
        Ok(Self {
            streams,
            connection,
        })
    }

    /// Waits for the command to end and returns its exit code: 128 + signal if one killed it.
    ///
    /// # Errors
    /// `Unavailable` if the instance ends first.
    pub async fn wait(&mut self) -> Result<i32> {
        match answer(&self.connection).await? {
            Reply::Executed { code } => Ok(code),
            other => Err(unexpected(&other)),
        }
    }
}

async fn begun(
    connection: &UnixStream,
    request: &Request,
    files: &[std::os::fd::BorrowedFd<'_>],
) -> Result<(i32, Option<OwnedFd>)> {
    let unavailable = |error| Error::unavailable("cannot ask the shim").with_source(error);
    protocol::send(connection, request, files)
        .await
        .map_err(unavailable)?;
    let (reply, mut files) = protocol::receive::<Reply>(connection, FRAME_MAX)
        .await
        .map_err(unavailable)?;
    match reply {
        Reply::Executing { pid } => Ok((pid, files.pop())),
        Reply::Failed { kind, message } => Err(protocol::error(&kind, message)),
        other => Err(unexpected(&other)),
    }
}

impl Terminal {
    fn new(console: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&console, true)?;
        Ok(Self(watch(
            console,
            Interest::READABLE | Interest::WRITABLE,
        )?))
    }

    /// Reads what the command writes. 0: the last process on the terminal has ended.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self
            .0
            .async_io(Interest::READABLE, |fd| {
                Ok(rustix::io::read(fd, &mut *buffer)?)
            })
            .await;
        match read {
            // So the kernel says that the other end is closed.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
            other => other,
        }
    }

    /// Writes what the command reads.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self
                .0
                .async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, rest)?))
                .await?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Tells the command the terminal's size, in columns and rows.
    pub fn resize(&self, size: (u16, u16)) -> io::Result<()> {
        resize(self.0.get_ref(), size)
    }
}
