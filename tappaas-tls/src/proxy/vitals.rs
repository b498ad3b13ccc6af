use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use crate::config::{Timeouts, ms};

/// What a client's connection is doing, so that one timer a connection, not one a request, finds the slow and the silent ones.
///
/// hyper's own header timer stays off: it is armed anew for every request, and knows no difference between a client that is silent
/// between two requests and one that dribbles a head.
#[derive(Debug)]
pub(crate) struct Vitals {
    opened: Instant,
    /// Requests that are being answered.
    active: AtomicU32,
    /// Streams share the connection: bytes while none is active are no head.
    pub(super) multiplexed: AtomicBool,
    /// When the last answer was through, in ms after `opened`, as are the next two; these are 0 when nothing is going on.
    quiet_since: AtomicU64,
    head_since: AtomicU64,
    blocked_since: AtomicU64,
}

impl Vitals {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            active: AtomicU32::new(0),
            multiplexed: AtomicBool::new(false),
            quiet_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
        }
    }

    pub(super) fn begin(&self) {
        self.active.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
    }

    pub(super) fn end(&self) {
        self.quiet_since.store(self.now(), Relaxed);
        self.active.fetch_sub(1, Relaxed);
    }

    /// When this connection must be closed if nothing more happens; `None` while a request is being answered.
    ///
    /// A connection that is to stop is `leaving`: it gets little time between requests.
    pub(super) fn deadline(&self, timeouts: &Timeouts, leaving: bool) -> Option<Instant> {
        let after = |since: u64, limit: u64| self.opened + Duration::from_millis(since) + ms(limit);
        let blocked = match self.blocked_since.load(Relaxed) {
            0 => None,
            since => Some(after(since, timeouts.stall_ms)),
        };
        if self.active.load(Relaxed) > 0 {
            return blocked;
        }
        let idle = if leaving {
            timeouts.idle_ms.min(LEAVING_IDLE_MS)
        } else {
            timeouts.idle_ms
        };
        let waiting = match self.head_since.load(Relaxed) {
            0 => after(self.quiet_since.load(Relaxed), idle),
            since => after(since, timeouts.head_ms),
        };
        Some(blocked.map_or(waiting, |blocked| blocked.min(waiting)))
    }

    /// Never 0, which stands for "not".
    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }
}

/// Long enough for a client to see the `Connection: close` of its last answer and to open another connection.
const LEAVING_IDLE_MS: u64 = 3_000;

/// A client's stream that keeps its [`Vitals`].
#[derive(Debug)]
pub(crate) struct Watched {
    pub(super) stream: TcpStream,
    pub(super) vitals: Arc<Vitals>,
}

impl Watched {
    fn wrote<T>(&self, written: Poll<T>) -> Poll<T> {
        let blocked = &self.vitals.blocked_since;
        match written {
            Poll::Pending if blocked.load(Relaxed) == 0 => {
                blocked.store(self.vitals.now(), Relaxed);
            }
            Poll::Ready(_) if blocked.load(Relaxed) != 0 => {
                blocked.store(0, Relaxed);
            }
            _ => {}
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let vitals = &self.vitals;
        if buf.filled().len() > before
            && vitals.active.load(Relaxed) == 0
            && vitals.head_since.load(Relaxed) == 0
            && !vitals.multiplexed.load(Relaxed)
        {
            vitals.head_since.store(vitals.now(), Relaxed);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
