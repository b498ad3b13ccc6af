use std::{
    error::Error as StdError,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use super::Link;
use crate::plane::Ticket;

/// A request's body on its way to an endpoint.
#[derive(Debug)]
pub(crate) enum Outbound {
    Empty,
    Streaming {
        body: Incoming,
        /// How long the client may take for the next piece.
        stall: Duration,
        waiting: Option<Pin<Box<Sleep>>>,
    },
}

impl Outbound {
    pub(crate) fn new(body: Incoming, stall: Duration) -> Self {
        if body.is_end_stream() {
            Self::Empty
        } else {
            Self::Streaming {
                body,
                stall,
                waiting: None,
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self::Streaming {
            body,
            stall,
            waiting,
        } = self.get_mut()
        else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            *waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timer = waiting.get_or_insert_with(|| Box::pin(sleep(*stall)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(
            "the client sent nothing of the body for too long".into(),
        )))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming { body, .. } => body.size_hint(),
        }
    }
}

/// The body of an endpoint's answer, together with what must live until it is through.
#[derive(Debug)]
pub(crate) struct Reply {
    body: Incoming,
    /// Gone back to its pool once the answer is through, or closed with it.
    link: Option<Box<Link>>,
    ticket: Option<Ticket>,
    per_endpoint: usize,
    /// How it broke off, told one turn later.
    broken: Option<hyper::Error>,
}

impl Reply {
    pub(crate) fn new(
        body: Incoming,
        link: Box<Link>,
        ticket: Ticket,
        per_endpoint: usize,
    ) -> Self {
        let mut reply = Self {
            body,
            link: Some(link),
            ticket: Some(ticket),
            per_endpoint,
            broken: None,
        };
        if reply.body.is_end_stream() {
            reply.through();
        }
        reply
    }

    /// The answer is through: the connection may serve another request, and the seat no longer counts this one.
    fn through(&mut self) {
        let (link, ticket) = (self.link.take(), self.ticket.take());
        if let (Some(mut link), Some(ticket)) = (link, ticket)
            && link.ready()
        {
            ticket.seat().upstream().keep(link, self.per_endpoint);
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let reply = self.get_mut();
        if let Some(error) = reply.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        // Only the link brings frames: the body itself need not wake anyone.
        let mut nobody = Context::from_waker(Waker::noop());
        let Some(link) = &mut reply.link else {
            return Pin::new(&mut reply.body).poll_frame(cx);
        };
        let mut frame = Pin::new(&mut reply.body).poll_frame(&mut nobody);
        if frame.is_pending() {
            // The connection reads only what the body asked for, hence the body first; what it then read is there at once.
            let closed = link.poll(cx).is_ready();
            frame = Pin::new(&mut reply.body).poll_frame(&mut nobody);
            if closed {
                reply.link = None;
            }
        }
        let frame = ready!(frame);
        if let Some(Err(error)) = frame {
            // Told at once it would take along what the client's side has not written yet.
            reply.broken = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if frame.is_none() || reply.body.is_end_stream() {
            reply.through();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
