use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::lock::lock;
use crate::{Error, Result};

/// Answers the requests that reach one address; the argument is the request's path.
pub type Handler = Arc<dyn Fn(String) -> BoxFuture<'static, Answer> + Send + Sync>;

/// A network of made-up addresses within one process. Clones are the same network.
#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    listeners: BTreeMap<SocketAddr, Listener>,
    assigned: u32,
}

#[derive(Clone)]
struct Listener {
    handler: Handler,
    closed: CancellationToken,
}

/// What a request is answered with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; of a redirect: where to.
    pub body: String,
}

impl Answer {
    /// An answer with status 200.
    pub fn ok(body: impl Into<String>) -> Self {
        Self::new(200, body)
    }

    /// An answer.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        let body = body.into();
        Self { status, body }
    }
}

/// Why a request was not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// Nothing listens there: nothing was sent.
    Refused,
    /// The listener was closed while it worked on the request.
    Reset,
}

impl Network {
    /// Creates an empty network.
    pub fn new() -> Self {
        Self::default()
    }

    /// An address that nobody on this network was given before, in 10.0.0.0/8.
    pub fn assign(&self) -> Ipv4Addr {
        let mut state = lock(&self.0);
        state.assigned += 1;
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + state.assigned)
    }

    /// Listens at an address until the result is dropped, which also resets what is in flight there.
    ///
    /// # Errors
    /// `AlreadyExists` if somebody listens there.
    pub fn listen(&self, address: SocketAddr, handler: Handler) -> Result<Listening> {
        let closed = CancellationToken::new();
        let listener = Listener {
            handler,
            closed: closed.clone(),
        };
        let listeners = &mut lock(&self.0).listeners;
        if listeners.contains_key(&address) {
            let message = format!("somebody listens at {address} already");
            return Err(Error::already_exists(message));
        }
        listeners.insert(address, listener);
        Ok(Listening {
            network: self.clone(),
            address,
            closed,
            finished: false,
        })
    }

    /// Sends a request to an address and waits for its answer.
    ///
    /// # Errors
    /// Nobody listens there, or stops before the answer is made.
    pub async fn request(&self, address: SocketAddr, path: &str) -> Result<Answer, Failure> {
        let listener = lock(&self.0).listeners.get(&address).cloned();
        let listener = listener.ok_or(Failure::Refused)?;
        tokio::select! {
            biased;
            () = listener.closed.cancelled() => Err(Failure::Reset),
            answer = (listener.handler)(path.to_owned()) => Ok(answer),
        }
    }

    /// The ports that are listened on at an IP address.
    pub fn ports(&self, ip: IpAddr) -> BTreeSet<u16> {
        let range = SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX);
        let state = lock(&self.0);
        state
            .listeners
            .range(range)
            .map(|(at, _)| at.port())
            .collect()
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.0);
        f.debug_set().entries(state.listeners.keys()).finish()
    }
}

/// Somebody listens as long as this lives.
#[derive(Debug)]
pub struct Listening {
    network: Network,
    address: SocketAddr,
    closed: CancellationToken,
    finished: bool,
}

impl Listening {
    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes nothing new from now on; what is in flight goes on to its end.
    pub fn finish(mut self) {
        lock(&self.network.0).listeners.remove(&self.address);
        self.finished = true;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if !self.finished {
            lock(&self.network.0).listeners.remove(&self.address);
            self.closed.cancel();
        }
    }
}
