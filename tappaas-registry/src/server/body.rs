use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt as _;

use super::failure::Failure;
use crate::Error;

/// The body of a request, chunk by chunk; a sender that pauses too long is given up.
#[derive(Debug)]
pub(super) struct Incoming {
    body: Body,
    pause: Duration,
}

/// How much of a body that nobody wants is read, so that the sender gets to see the answer.
const DRAIN_BYTES_MAX: usize = 16 << 20;

impl Incoming {
    pub(super) fn new(body: Body, pause: Duration) -> Self {
        Self { body, pause }
    }

    /// The next chunk; `None` at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = tokio::time::timeout(self.pause, self.body.frame()).await;
            match frame.map_err(|_| paused())? {
                None => return Ok(None),
                Some(Err(_)) => {
                    return Err(Failure::upload_invalid(
                        "body ended before its announced length",
                    ));
                }
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data() {
                        return Ok(Some(chunk));
                    }
                }
            }
        }
    }

    /// The whole body, if it has at most `limit` bytes.
    pub(super) async fn whole(&mut self, limit: u64, what: &'static str) -> Result<Bytes, Failure> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if (whole.len() + chunk.len()) as u64 > limit {
                self.drain().await;
                return Err(Error::TooLarge { what, limit }.into());
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// Reads on, within bounds, and forgets what it reads.
    pub(super) async fn drain(&mut self) {
        let mut drained = 0;
        while let Ok(Some(chunk)) = self.chunk().await {
            drained += chunk.len();
            if drained > DRAIN_BYTES_MAX {
                break;
            }
        }
    }
}

fn paused() -> Failure {
    Failure::new(
        StatusCode::REQUEST_TIMEOUT,
        "BLOB_UPLOAD_INVALID",
        "body paused for too long",
    )
}
