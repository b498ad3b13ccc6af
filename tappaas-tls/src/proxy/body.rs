use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::record::Record;
use crate::upstream::Reply;

/// The body of an answer to a client. The request's [`Record`] ends with it.
#[derive(Debug)]
pub(crate) struct Body {
    source: Source,
    record: Option<Box<Record>>,
}

#[derive(Debug)]
enum Source {
    Text(Bytes),
    Reply(Reply),
}

impl Body {
    pub(super) fn empty() -> Self {
        Self::text(Bytes::new())
    }

    pub(super) fn text(text: Bytes) -> Self {
        Self {
            source: Source::Text(text),
            record: None,
        }
    }

    pub(super) fn reply(reply: Reply) -> Self {
        Self {
            source: Source::Reply(reply),
            record: None,
        }
    }

    pub(super) fn recorded(mut self, mut record: Box<Record>) -> Self {
        record.complete = http_body::Body::is_end_stream(&self);
        self.record = Some(record);
        self
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        let frame = match &mut body.source {
            Source::Text(text) if text.is_empty() => None,
            Source::Text(text) => Some(Ok(Frame::data(std::mem::take(text)))),
            Source::Reply(reply) => ready!(Pin::new(reply).poll_frame(cx)),
        };
        let ended = frame.is_none() || http_body::Body::is_end_stream(body);
        if let Some(record) = &mut body.record {
            if let Some(Ok(frame)) = &frame {
                record.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
            record.complete |= ended;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Text(text) => text.is_empty(),
            Source::Reply(reply) => reply.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Text(text) => SizeHint::with_exact(text.len() as u64),
            Source::Reply(reply) => reply.size_hint(),
        }
    }
}
