use std::{
    net::Ipv4Addr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use tappaas_core::{
    Error, Result,
    backend::{Endpoint, Usage},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UnixStream},
    sync::watch,
    time::timeout,
};

use super::{
    Execution, Phase, Status,
    reap::{MARGIN, dismiss, processes_of},
};
use crate::{
    fault::Context,
    shim::{
        Identity, Listener, Record, boot_id, passing,
        protocol::{self, CONTROL, Call, DIAL, FRAME_MAX, OLDEST, Reply, Request, VERSION},
    },
};

/// How long a shim that lives may take to answer what it can answer at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running instance, or one that has just ended. Dropping it changes nothing: the instance goes on.
#[derive(Clone, Debug)]
pub struct Instance {
    dir: PathBuf,
    shim: Identity,
    version: u32,
    address: Option<Ipv4Addr>,
}

/// What is found of an instance that was started by an earlier server.
#[derive(Debug)]
pub enum Adopted {
    /// It is there.
    Alive(Instance),
    /// It ended while nobody looked; this is how. Its folder can be deleted, after [`reap`](crate::reap).
    Ended(Box<Status>),
    /// Its shim died, by itself or with the machine. To be [reaped](crate::reap); its process may still serve.
    Lost,
    /// There is no instance in that folder.
    Absent,
}

impl Instance {
    pub(super) fn new(dir: &Path, record: &Record, status: &Status) -> Self {
        Self {
            dir: dir.to_owned(),
            shim: record.shim,
            version: record.version,
            address: status.address,
        }
    }

    /// Finds the instance whose folder is `dir`.
    ///
    /// # Errors
    /// `Unsupported` if a newer server started it, `Unavailable` if its shim lives and does not answer, `NotFound` if that died
    /// meanwhile. Only after the last it is dead for certain.
    pub async fn adopt(dir: &Path) -> Result<Adopted> {
        let record =
            Record::read(dir).context(|| format!("read the record in {}", dir.display()))?;
        let Some(record) = record else {
            if processes_of(dir).is_empty() {
                return Ok(Adopted::Absent);
            }
            return Err(Error::unavailable(format!(
                "a shim runs in {} whose record cannot be read",
                dir.display()
            )));
        };
        if let Some(status) = record.ended {
            return Ok(Adopted::Ended(Box::new(status)));
        }
        let boot = boot_id().context(|| "identify this boot".to_owned())?;
        if record.boot != boot || record.shim.alive().is_none() {
            return Ok(Adopted::Lost);
        }
        if !(OLDEST..=VERSION).contains(&record.version) {
            let (id, version) = (&record.id, record.version);
            return Err(Error::unsupported(format!(
                "instance {id} speaks version {version}; this server speaks {OLDEST} to {VERSION}"
            )));
        }
        let mut instance = Self {
            dir: dir.to_owned(),
            shim: record.shim,
            version: record.version,
            address: None,
        };
        let status = instance.status().await?;
        if status.phase == Phase::Ended {
            return Ok(Adopted::Ended(Box::new(status)));
        }
        instance.address = status.address;
        Ok(Adopted::Alive(instance))
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How it is now.
    ///
    /// # Errors
    /// `NotFound` if its shim is dead: then it is to be [reaped](crate::reap). `Unavailable` if its shim lives and does not answer.
    pub async fn status(&self) -> Result<Status> {
        match self.call(Call::Status).await {
            Ok(Reply::Status(status)) => Ok(*status),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => self.last_word(error).await,
        }
    }

    /// How it is, from now on. The last value is [`Phase::Ended`] or [`Phase::Lost`].
    ///
    /// # Errors
    /// As [`Instance::status`].
    pub async fn subscribe(&self) -> Result<watch::Receiver<Status>> {
        let (stream, first) = match self.begin_subscription().await {
            Ok(begun) => begun,
            Err(error) => return Ok(watch::channel(self.last_word(error).await?).1),
        };
        let (sender, receiver) = watch::channel(first);
        let instance = self.clone();
        tokio::spawn(async move { instance.follow(&stream, &sender).await });
        Ok(receiver)
    }

    /// Stops it for good, and returns how it ended once nothing of it is left. `grace` shortens what its spec says. A shim that is not
    /// done twenty seconds after that is killed.
    ///
    /// # Errors
    /// `NotFound` if its shim is dead or had to be killed: then it is to be [reaped](crate::reap). `Unavailable` if it cannot be asked:
    /// then it may be [ended](crate::end) unasked.
    pub async fn stop(&self, grace: Option<Duration>) -> Result<Status> {
        let longest = Duration::from_secs(tappaas_core::model::Stop::GRACE_SECONDS_MAX.into());
        let patience = grace.unwrap_or(longest) + MARGIN;
        match timeout(patience, self.ask_to_stop(grace)).await {
            Ok(stopped) => stopped,
            Err(_) => {
                dismiss(self.shim, Duration::ZERO).await?;
                self.noted().ok_or_else(|| self.dead())
            }
        }
    }

    /// Kills the process, for its restart policy to start it again: what a failed liveness probe asks for.
    pub async fn restart(&self) -> Result<()> {
        match self.call(Call::Restart).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs a further command inside, under the same limits and filters, in `workdir` or where the process itself was started. With
    /// `terminal`, of so many columns and rows, it runs on one.
    ///
    /// # Errors
    /// `Invalid` if the command cannot be executed.
    pub async fn exec(
        &self,
        command: Vec<String>,
        workdir: Option<PathBuf>,
        terminal: Option<(u16, u16)>,
    ) -> Result<Execution> {
        let stream = self.connect().await?;
        let call = Call::Exec {
            command,
            workdir,
            terminal,
        };
        let request = Request {
            version: self.version,
            call,
        };
        Execution::begin(stream, request, terminal.is_some()).await
    }

    /// What it uses.
    pub async fn usage(&self) -> Result<Usage> {
        match self.call(Call::Usage).await? {
            Reply::Usage(usage) => Ok(usage),
            other => Err(unexpected(&other)),
        }
    }

    /// The TCP ports that processes inside listen on.
    ///
    /// # Errors
    /// `Unsupported` on the machine's own network, where they cannot be told from others.
    pub async fn listeners(&self) -> Result<Vec<Listener>> {
        match self.call(Call::Listeners).await? {
            Reply::Listeners(listeners) => Ok(listeners),
            other => Err(unexpected(&other)),
        }
    }

    /// Where a port inside is reached.
    pub fn endpoint(&self, port: u16) -> Endpoint {
        match self.address {
            Some(address) => Endpoint::Address((address, port).into()),
            None => Endpoint::Dial {
                socket: self.dir.join(DIAL),
                port,
            },
        }
    }

    /// Connects to a port inside.
    ///
    /// # Errors
    /// `Unavailable` if nothing listens there.
    pub async fn connect_to(&self, port: u16) -> Result<TcpStream> {
        let refused = |error| {
            Error::unavailable(format!("cannot connect to port {port} inside")).with_source(error)
        };
        let connected = match self.endpoint(port) {
            Endpoint::Dial { socket, port } => timeout(PATIENCE, dial(&socket, port)).await,
            _ => {
                timeout(
                    PATIENCE,
                    TcpStream::connect((self.address.unwrap_or(Ipv4Addr::LOCALHOST), port)),
                )
                .await
            }
        };
        connected
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(refused)
    }

    /// Stops it at once if it runs, and deletes its folder with all logs.
    pub async fn remove(self) -> Result<()> {
        if self.shim.alive().is_some() {
            self.stop(Some(Duration::ZERO)).await.ok();
        }
        super::end(&self.dir, Duration::ZERO).await?;
        let removed = std::fs::remove_dir_all(&self.dir);
        Ok(removed.context(|| format!("delete {}", self.dir.display()))?)
    }

    /// Returns once the shim is dead.
    pub(super) async fn gone(&self) {
        self.shim.gone().await;
    }

    async fn ask_to_stop(&self, grace: Option<Duration>) -> Result<Status> {
        let status = match self.long_call(Call::Stop { grace }).await {
            Ok(Reply::Status(status)) => *status,
            Ok(other) => return Err(unexpected(&other)),
            Err(error) => self.last_word(error).await?,
        };
        self.gone().await;
        Ok(self.noted().unwrap_or(status))
    }

    async fn begin_subscription(&self) -> Result<(UnixStream, Status)> {
        let stream = self.connect().await?;
        self.send(&stream, Call::Subscribe, &[]).await?;
        match timeout(PATIENCE, answer(&stream)).await {
            Ok(Ok(Reply::Status(status))) => Ok((stream, *status)),
            Ok(other) => Err(unexpected(&other?)),
            Err(_) => Err(self.mute()),
        }
    }

    async fn follow(self, stream: &UnixStream, sender: &watch::Sender<Status>) {
        loop {
            tokio::select! {
                received = protocol::receive::<Reply>(stream, FRAME_MAX) => match received {
                    Ok((Reply::Status(status), _)) => drop(sender.send_replace(*status)),
                    _ => break,
                },
                () = sender.closed() => return,
                // A killed shim may leave clones of itself that keep the connection open.
                () = self.gone() => break,
            }
        }
        if sender.borrow().phase != Phase::Ended {
            self.gone().await;
            let last = self.noted();
            sender.send_modify(|status| match last {
                Some(last) => *status = last,
                None => status.phase = Phase::Lost,
            });
        }
    }

    /// Where a shim does not answer, since it ends now or has ended: what it noted last.
    async fn last_word(&self, error: Error) -> Result<Status> {
        if timeout(PATIENCE, self.gone()).await.is_err() {
            return Err(error);
        }
        self.noted().ok_or_else(|| self.dead())
    }

    fn dead(&self) -> Error {
        Error::not_found(format!(
            "the shim of {} is dead: reap the instance",
            self.dir.display()
        ))
    }

    /// What the shim noted when it had nothing left to do, unless it died without.
    fn noted(&self) -> Option<Status> {
        Record::read(&self.dir).ok()??.ended
    }

    fn mute(&self) -> Error {
        Error::unavailable(format!(
            "the shim of {} does not answer",
            self.dir.display()
        ))
    }

    async fn call(&self, call: Call) -> Result<Reply> {
        let answered = timeout(PATIENCE, self.long_call(call)).await;
        answered.map_err(|_| self.mute())?
    }

    async fn long_call(&self, call: Call) -> Result<Reply> {
        let stream = self.connect().await?;
        self.send(&stream, call, &[]).await?;
        answer(&stream).await
    }

    async fn send(
        &self,
        stream: &UnixStream,
        call: Call,
        files: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<()> {
        let request = Request {
            version: self.version,
            call,
        };
        let sent = protocol::send(stream, &request, files).await;
        sent.map_err(|error| Error::unavailable("cannot ask the shim").with_source(error))
    }

    async fn connect(&self) -> Result<UnixStream> {
        let path = self.dir.join(CONTROL);
        let refused = |error| {
            Error::unavailable(format!("cannot reach the shim at {}", path.display()))
                .with_source(error)
        };
        UnixStream::connect(&path).await.map_err(refused)
    }
}

pub(super) async fn answer(stream: &UnixStream) -> Result<Reply> {
    let received = protocol::receive::<Reply>(stream, FRAME_MAX).await;
    match received {
        Ok((Reply::Failed { kind, message }, _)) => Err(protocol::error(&kind, message)),
        Ok((reply, _)) => Ok(reply),
        Err(error) => Err(Error::unavailable("the shim closed the connection").with_source(error)),
    }
}

pub(super) fn unexpected(reply: &Reply) -> Error {
    let text = format!("{reply:?}");
    let name = text.split(['(', ' ', '{']).next().unwrap_or_default();
    Error::internal(format!(
        "the shim answered something else than it was asked: {name}"
    ))
}

async fn dial(socket: &Path, port: u16) -> std::io::Result<TcpStream> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_u16(port).await?;
    let (mut status, mut files) = ([0], Vec::new());
    passing::receive_all(&stream, &mut status, &mut files).await?;
    match files.pop() {
        Some(file) if status == [0] => {
            debug_assert!(rustix::net::sockopt::socket_type(file.as_fd()).is_ok());
            let stream = std::net::TcpStream::from(file);
            stream.set_nonblocking(true)?;
            TcpStream::from_std(stream)
        }
        _ => Err(std::io::ErrorKind::ConnectionRefused.into()),
    }
}
