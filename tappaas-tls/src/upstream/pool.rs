use std::{
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tappaas_core::backend::Endpoint;
use tokio::time::Instant;

use super::{Link, connect};
use crate::{
    config::{Timeouts, ms},
    plane::Health,
};

/// An endpoint, its health, and the unused connections to it. Shared by all routes that name it.
#[derive(Debug)]
pub(crate) struct Upstream {
    endpoint: Endpoint,
    /// The endpoint as text, for logs.
    label: Box<str>,
    pub(crate) health: Health,
    /// The last one put aside is the first one taken up, so that the rest grow old and go.
    #[expect(
        clippy::vec_box,
        reason = "a link is a kilobyte, and goes from hand to hand for every request"
    )]
    idle: Mutex<Vec<Box<Link>>>,
    closed: AtomicBool,
}

impl Upstream {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let label = match &endpoint {
            Endpoint::Address(address) => address.to_string(),
            Endpoint::Dial { socket, port } => format!("{}:{port}", socket.display()),
            Endpoint::Service { host, port } => format!("{host}:{port}"),
        };
        Self {
            endpoint,
            label: label.into(),
            health: Health::default(),
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Keeps connections from now on.
    pub(crate) fn open(&self) {
        self.closed.store(false, SeqCst);
    }

    /// Drops the unused connections and keeps no more: the endpoint is in no route.
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
        drop(std::mem::take(&mut *self.idle()));
    }

    /// Takes up an unused connection that still stands.
    pub(crate) fn reuse(&self) -> Option<Box<Link>> {
        loop {
            let mut link = self.idle().pop()?;
            if link.ready() {
                link.reused = true;
                return Some(link);
            }
        }
    }

    /// Opens a new connection.
    ///
    /// # Errors
    /// As [`connect`]; the endpoint's health is told either way.
    pub(crate) async fn dial(
        &self,
        timeouts: &Timeouts,
        now_ms: impl Fn() -> u64,
    ) -> io::Result<Box<Link>> {
        let opened = match connect(&self.endpoint, ms(timeouts.connect_ms)).await {
            Ok(stream) => Link::open(stream).await.map_err(io::Error::other),
            Err(error) => Err(error),
        };
        match &opened {
            Ok(_) => self.health.accepted(),
            Err(_) => self.health.refused(now_ms()),
        }
        opened
    }

    /// Puts aside a connection that is ready for another request.
    pub(super) fn keep(&self, mut link: Box<Link>, per_endpoint: usize) {
        link.idle_since = Instant::now();
        let mut idle = self.idle();
        // Read under the lock that `close` empties the list under: nothing is put into a closed one.
        if !self.closed.load(SeqCst) && idle.len() < per_endpoint {
            idle.push(link);
        }
    }

    /// Drops connections unused for too long.
    pub(crate) fn sweep(&self, idle_for: Duration) {
        let expired: Vec<_> = {
            let mut idle = self.idle();
            let young = idle
                .iter()
                .position(|link| link.idle_since.elapsed() < idle_for);
            let expired = young.unwrap_or(idle.len());
            idle.drain(..expired).collect()
        };
        drop(expired);
    }

    #[expect(clippy::vec_box, reason = "as the field")]
    fn idle(&self) -> MutexGuard<'_, Vec<Box<Link>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
