use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream as StdUnixStream},
    path::PathBuf,
};

use tappaas_core::{Error, Result};
use tokio::net::UnixStream;

use super::protocol::{self, FRAME_MAX, Progress, Start, VERSION};
use crate::{
    fault::{self, Context},
    instance::Status,
    sandbox::{IdMap, Mapper, Spec},
};

/// The talk between a starting shim and the server that started it, over the shim's standard input.
pub(super) struct Handshake(UnixStream);

impl Handshake {
    /// Takes the standard input over. What is started later gets `/dev/null` there.
    pub(super) fn take() -> io::Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        let socket = StdUnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self(UnixStream::from_std(socket)?))
    }

    pub(super) async fn spec(&self) -> Result<Spec> {
        let received = protocol::receive::<Start>(&self.0, Spec::BYTES_MAX).await;
        let (start, _) = received.map_err(|error| {
            Error::invalid("cannot understand what to start").with_source(error)
        })?;
        if start.version != VERSION {
            let asked = start.version;
            return Err(Error::unsupported(format!(
                "this helper speaks version {VERSION}, not {asked}: give it the same version as the server"
            )));
        }
        start.spec.validate()?;
        Ok(start.spec)
    }

    /// Has the network namespace connected to the outside.
    pub(super) async fn connect(&self, pasta: PathBuf) -> fault::Result<()> {
        self.ask(&Progress::Connect { pasta }, "have the network connected")
            .await
    }

    /// Whether the server hears it or not, the instance lives.
    pub(super) async fn started(self, status: Status) {
        protocol::send(&self.0, &Progress::Started(Box::new(status)), &[])
            .await
            .ok();
    }

    pub(super) async fn failed(&self, error: &Error) {
        protocol::send(&self.0, &Progress::failed(error), &[])
            .await
            .ok();
    }

    async fn ask(&self, question: &Progress, what: &str) -> fault::Result<()> {
        let asked = protocol::send(&self.0, question, &[]).await;
        asked.context(|| what.to_owned())?;
        let answered = protocol::receive::<()>(&self.0, FRAME_MAX).await;
        answered.map(|_| ()).context(|| what.to_owned())
    }
}

impl Mapper for Handshake {
    async fn map(&mut self, map: IdMap) -> fault::Result<()> {
        self.ask(&Progress::Map(map), "have the user namespace's ids mapped")
            .await
    }
}
