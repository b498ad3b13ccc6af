use std::{
    fs::File,
    io,
    os::fd::AsFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tappaas_core::{Error, Result};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Ask, HandedDoor, Hello, PROTOCOL, Tell, descriptors, frame, socket::remove};
use crate::{edge::Edge, signals::Sampler};

/// Time for the taker of an edge's sockets to say that it serves.
const COMMIT_MAX: Duration = Duration::from_secs(20);
const WINDOW_MS_MIN: u64 = 10;

/// An edge as a process: its control socket and its end.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) edge: Arc<Edge>,
    state: PathBuf,
    config: serde_json::Value,
    /// Held while this process is *the* edge of its state directory.
    lock: Mutex<Option<File>>,
    /// Ends the control socket and the connections to it.
    deaf: CancellationToken,
    pub(crate) stop: watch::Sender<Option<Stop>>,
}

/// Why an edge's process ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// Another one serves now.
    TakenOver,
    /// It was told to, with this time for connections to finish.
    Told(Duration),
}

impl Daemon {
    pub(crate) fn new(
        edge: Arc<Edge>,
        state: PathBuf,
        config: serde_json::Value,
        lock: File,
    ) -> Arc<Self> {
        Arc::new(Self {
            edge,
            state,
            config,
            lock: Mutex::new(Some(lock)),
            deaf: CancellationToken::new(),
            stop: watch::channel(None).0,
        })
    }

    /// Stops listening, on the control socket too.
    pub(crate) fn leave(&self, stop: Stop) {
        self.deaf.cancel();
        self.edge.shut();
        if stop != Stop::TakenOver {
            remove(&self.state);
        }
        self.lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.stop.send_if_modified(|current| {
            let first = current.is_none();
            current.get_or_insert(stop);
            first
        });
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            listen: self.edge.listen(),
            config: self.config.clone(),
        }
    }

    async fn answer(&self, ask: Ask) -> Result<Tell> {
        Ok(match ask {
            Ask::Hello => Tell::Hello(self.hello()),
            Ask::SetTable(table) => Tell::Applied {
                unbound: self.edge.set_table(table).await?,
            },
            Ask::Change(change) => Tell::Applied {
                unbound: self.edge.change(change).await?,
            },
            Ask::Table => Tell::Table(self.edge.table().await),
            Ask::Observe(id) => Tell::Status(self.edge.observe(&id).await?),
            Ask::Draining => Tell::Draining(self.edge.context().plane.draining()),
            Ask::Metrics => Tell::Metrics(crate::metrics::render(self.edge.context())),
            Ask::Leave { .. } | Ask::Watch { .. } | Ask::TakeOver | Ask::Commit => {
                return Err(Error::invalid("this cannot be asked here"));
            }
        })
    }
}

/// Answers at the control socket until the daemon leaves.
pub(crate) async fn accept(listener: UnixListener, daemon: Arc<Daemon>) {
    let listener = Arc::new(listener);
    loop {
        let accepted = tokio::select! {
            () = daemon.deaf.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let own = rustix::process::geteuid().as_raw();
        // The socket's mode says it already; a descriptor passed on does not.
        if !stream
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
        {
            continue;
        }
        let (daemon, listener) = (Arc::clone(&daemon), Arc::clone(&listener));
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &daemon, &listener).await {
                tracing::debug!(%error, "a control connection broke");
            }
        });
    }
}

async fn converse(
    mut stream: UnixStream,
    daemon: &Daemon,
    listener: &UnixListener,
) -> io::Result<()> {
    loop {
        let ask = tokio::select! {
            () = daemon.deaf.cancelled() => return Ok(()),
            ask = frame::read(&mut stream) => ask?,
        };
        match ask {
            None => return Ok(()),
            Some(Ask::Watch { window_ms }) => return watch(stream, daemon, window_ms).await,
            Some(Ask::TakeOver) => return hand_over(stream, daemon, listener).await,
            Some(Ask::Leave { drain_ms }) => {
                daemon.leave(Stop::Told(Duration::from_millis(drain_ms)));
                frame::write(&mut stream, &Tell::Done).await?;
                // Kept until this process ends, so that the one that asked sees the end, or until that one goes.
                while frame::read::<Ask>(&mut stream).await?.is_some() {}
                return Ok(());
            }
            Some(ask) => tokio::select! {
                biased;
                () = daemon.deaf.cancelled() => return Ok(()),
                answered = answer(&mut stream, daemon, ask) => answered?,
            },
        }
    }
}

async fn answer(stream: &mut UnixStream, daemon: &Daemon, ask: Ask) -> io::Result<()> {
    let tell = daemon
        .answer(ask)
        .await
        .unwrap_or_else(|error| Tell::refused(&error));
    frame::write(stream, &tell).await
}

async fn watch(mut stream: UnixStream, daemon: &Daemon, window_ms: u64) -> io::Result<()> {
    let window = Duration::from_millis(window_ms.max(WINDOW_MS_MIN));
    let plane = &daemon.edge.context().plane;
    let mut sampler = Sampler::new(plane);
    loop {
        let mut nothing = [0; 1];
        tokio::select! {
            () = daemon.deaf.cancelled() => return Ok(()),
            // The watcher says nothing more: whatever comes is its end.
            _ = tokio::io::AsyncReadExt::read(&mut stream, &mut nothing) => return Ok(()),
            () = Sampler::window(plane, window) => {}
        }
        frame::write(&mut stream, &Tell::Signals(sampler.sample(plane))).await?;
    }
}

/// Hands the listening sockets to the one that asks, and once it serves goes on answering it alone, about what is left here.
async fn hand_over(
    mut stream: UnixStream,
    daemon: &Daemon,
    listener: &UnixListener,
) -> io::Result<()> {
    let frozen = daemon.edge.freeze().await?;
    let doors = frozen.doors.iter().map(|(service, _)| match service {
        crate::listen::Service::Http => HandedDoor::Http,
        crate::listen::Service::Inner => HandedDoor::Inner,
    });
    let tell = Tell::Doors {
        table: frozen.table.clone(),
        doors: doors.chain([HandedDoor::Control]).collect(),
    };
    frame::write(&mut stream, &tell).await?;
    let listeners = frozen.doors.iter().map(|(_, listener)| listener.as_fd());
    descriptors::send(
        &stream,
        &listeners.chain([listener.as_fd()]).collect::<Vec<_>>(),
    )
    .await?;
    match timeout(COMMIT_MAX, frame::read(&mut stream)).await {
        Ok(Ok(Some(Ask::Commit))) => {}
        // The taker did not make it: this edge goes on as before.
        _ => return Ok(()),
    }
    // Deaf first: a table change that waits behind the frozen table must not be told done by an edge that is no longer the one.
    daemon.leave(Stop::TakenOver);
    drop(frozen);
    frame::write(&mut stream, &Tell::Done).await?;
    while let Some(ask) = frame::read(&mut stream).await? {
        answer(&mut stream, daemon, ask).await?;
    }
    Ok(())
}
