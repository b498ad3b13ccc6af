use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::Instant};

use super::Outbound;

/// An HTTP/1.1 connection to an endpoint.
///
/// It has no task of its own: whoever uses it polls it, in the same task that serves the client. A request then costs no wake-up
/// across tasks, and a connection that died while unused shows it when it is taken up again.
#[derive(Debug)]
pub(crate) struct Link {
    sender: SendRequest<Outbound>,
    connection: Connection<TokioIo<TcpStream>, Outbound>,
    /// It carried a request before.
    pub(crate) reused: bool,
    /// When it was last put aside.
    pub(super) idle_since: Instant,
}

/// A request that got no answer.
#[derive(Debug)]
pub(crate) struct Unsent {
    pub(crate) error: hyper::Error,
    /// The request, if not a byte of it was written.
    pub(crate) request: Option<Request<Outbound>>,
}

/// A connection that left HTTP behind, and what it said since.
#[derive(Debug)]
pub(crate) struct Upgraded {
    pub(crate) stream: TcpStream,
    pub(crate) early: Bytes,
}

impl Link {
    pub(crate) async fn open(stream: TcpStream) -> hyper::Result<Box<Self>> {
        let (sender, connection) = http1::Builder::new()
            .max_header_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Box::new(Self {
            sender,
            connection,
            reused: false,
            idle_since: Instant::now(),
        }))
    }

    /// Sends a request and returns the head of its answer; the body comes as this link goes on being polled.
    pub(crate) async fn send(
        &mut self,
        request: Request<Outbound>,
    ) -> Result<Response<Incoming>, Box<Unsent>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        let mut open = true;
        poll_fn(move |cx| {
            if open {
                // How the connection ended is told by the answer.
                open = connection.poll_without_shutdown(cx).is_pending();
            }
            // Only the connection brings the answer, and it was just polled: the answer itself need not wake anyone.
            answer
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
        .map_err(|mut unsent| {
            Box::new(Unsent {
                request: unsent.take_message(),
                error: unsent.into_error(),
            })
        })
    }

    /// Drives the connection. Ready once it is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.connection).poll(cx).map(drop)
    }

    /// Whether another request may be sent: the last one and its answer are through, and the far side did not close.
    ///
    /// Leaves no waker behind: while it is unused nothing about it matters to anyone.
    pub(super) fn ready(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        self.poll(&mut nobody).is_pending() && self.sender.is_ready()
    }

    /// Takes the connection out of HTTP, after an answer of 101.
    pub(crate) async fn upgrade(mut self: Box<Self>) -> io::Result<Upgraded> {
        poll_fn(|cx| self.connection.poll_without_shutdown(cx))
            .await
            .map_err(io::Error::other)?;
        let parts = self.connection.into_parts();
        Ok(Upgraded {
            stream: parts.io.into_inner(),
            early: parts.read_buf,
        })
    }
}

const MAX_HEAD_BYTES: usize = 256 * 1024;
