use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    inner::relay,
    proxy::{Client, Context, serve},
};

/// Connections that wait in the kernel while this edge is busy or full.
const BACKLOG: u32 = 4_096;
/// After `accept` failed for want of something, descriptors for example: time for others to give it back.
const ACCEPT_AGAIN: Duration = Duration::from_millis(20);

/// What comes in at a listening address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Service {
    Http,
    /// TCP, to the inner route of this address.
    Inner,
}

/// An open listening address and the connections taken at it.
///
/// Dropping it aborts them all; [`Door::shut`] lets them end.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    /// The listening socket once more, to hand it over.
    listener: StdListener,
    shut: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Door {
    /// Opens a listening address.
    ///
    /// # Errors
    /// When the address is taken or not of this machine.
    pub(crate) fn open(address: SocketAddr, service: Service, gate: &Gate) -> io::Result<Self> {
        Self::take(bind(address)?, service, gate)
    }

    /// Takes over a socket that listens already.
    ///
    /// # Errors
    /// When it is no listening TCP socket.
    pub(crate) fn take(listener: StdListener, service: Service, gate: &Gate) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shut = CancellationToken::new();
        let accepting = TcpListener::from_std(listener.try_clone()?)?;
        let task = AbortOnDropHandle::new(tokio::spawn(accept(
            accepting,
            service,
            gate.clone(),
            shut.clone(),
        )));
        Ok(Self {
            address,
            listener,
            shut,
            task,
        })
    }

    /// The listening socket, to hand it over.
    pub(crate) fn listener(&self) -> &StdListener {
        &self.listener
    }

    /// Takes no more connections. Those taken go on in the task returned, which ends with the last of them.
    pub(crate) fn shut(self) -> AbortOnDropHandle<()> {
        self.shut.cancel();
        self.task
    }
}

/// What all doors of an edge share.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    context: Arc<Context>,
    connections: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let connections = context.limits.connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            context,
            connections: Arc::new(Semaphore::new(connections)),
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

async fn accept(listener: TcpListener, service: Service, gate: Gate, shut: CancellationToken) {
    let mut taken = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shut.cancelled() => break,
            Some(_) = taken.join_next(), if !taken.is_empty() => {}
            one = one(&listener, &gate) => match one {
                Some((stream, peer, permit)) => {
                    let context = Arc::clone(&gate.context);
                    taken.spawn(async move {
                        greet(stream, peer, service, context).await;
                        drop(permit);
                    });
                }
                None => sleep(ACCEPT_AGAIN).await,
            },
        }
    }
    drop(listener);
    while taken.join_next().await.is_some() {}
}

/// Takes one connection, once there is room for it.
async fn one(
    listener: &TcpListener,
    gate: &Gate,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(&gate.connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::debug!(%error, "a connection was not accepted");
            None
        }
    }
}

async fn greet(stream: TcpStream, peer: SocketAddr, service: Service, context: Arc<Context>) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    match service {
        Service::Http => serve(stream, Client::new(context, peer, local)).await,
        Service::Inner => relay(stream, local, context).await,
    }
}

/// The doors of an edge by address.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    pub(crate) http: Vec<Door>,
    pub(crate) inner: HashMap<SocketAddr, Door>,
}

impl Doors {
    /// Opens the inner addresses of `wanted` that are not open, and returns those that cannot be.
    pub(crate) fn open_inner(
        &mut self,
        wanted: impl Iterator<Item = SocketAddr>,
        gate: &Gate,
    ) -> Vec<(SocketAddr, io::Error)> {
        let mut failed = Vec::new();
        for address in wanted {
            if self.inner.contains_key(&address) {
                continue;
            }
            match Door::open(address, Service::Inner, gate) {
                Ok(door) => {
                    self.inner.insert(address, door);
                }
                Err(error) => failed.push((address, error)),
            }
        }
        failed
    }

    /// Shuts the inner addresses that `wanted` does not have. The tasks returned end with their connections.
    pub(crate) fn shut_inner(
        &mut self,
        wanted: impl Fn(&SocketAddr) -> bool,
    ) -> Vec<AbortOnDropHandle<()>> {
        self.inner
            .extract_if(|address, _| !wanted(address))
            .map(|(_, door)| door.shut())
            .collect()
    }
}
