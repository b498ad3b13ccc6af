use std::{
    io,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional},
    net::TcpStream,
    time::sleep,
};

use super::{record::Record, vitals::Watched};
use crate::{plane::Ticket, upstream::Upgraded};

/// A connection that left HTTP: bytes both ways until both sides, or the silence, end it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(super) client: OnUpgrade,
    pub(super) endpoint: Upgraded,
    /// The seat counts this connection until it closes.
    pub(super) _ticket: Ticket,
    /// The request that became this tunnel ends with it.
    pub(super) record: Option<Box<Record>>,
}

impl Tunnel {
    /// Runs the tunnel once the client has its 101.
    pub(super) async fn run(self, idle: Duration) -> io::Result<()> {
        let upgraded = self.client.await.map_err(io::Error::other)?;
        let parts = upgraded
            .downcast::<TokioIo<Watched>>()
            .map_err(|_| io::Error::other("not a client's stream"))?;
        let mut client = parts.io.into_inner().stream;
        let Upgraded { mut stream, early } = self.endpoint;
        stream.write_all(&parts.read_buf).await?;
        client.write_all(&early).await?;
        let (moved, ended) = tunnel(client, stream, idle).await;
        if let Some(mut record) = self.record {
            record.bytes = moved;
            record.complete = ended.is_ok();
        }
        ended
    }
}

/// Copies both ways, and returns how many bytes went through. A side that ends is told to the other, which may go on.
///
/// # Errors
/// What either side broke with; `TimedOut` once both were silent for `idle`.
pub(crate) async fn tunnel(
    client: TcpStream,
    mut endpoint: TcpStream,
    idle: Duration,
) -> (u64, io::Result<()>) {
    let moved = AtomicU64::new(0);
    let mut client = Counted {
        stream: client,
        moved: &moved,
    };
    let mut copy = pin!(copy_bidirectional(&mut client, &mut endpoint));
    loop {
        let before = moved.load(Relaxed);
        tokio::select! {
            copied = &mut copy => return (moved.load(Relaxed), copied.map(drop)),
            () = sleep(idle) => if moved.load(Relaxed) == before {
                return (before, Err(io::ErrorKind::TimedOut.into()));
            },
        }
    }
}

struct Counted<'a> {
    stream: TcpStream,
    moved: &'a AtomicU64,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.moved
            .fetch_add((buf.filled().len() - before) as u64, Relaxed);
        read
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.moved.fetch_add(*bytes as u64, Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
