use std::io::{self, Read};

use bytes::{Buf, Bytes};
use futures::{StreamExt as _, stream::BoxStream};
use tappaas_core::{Error, Result};
use tokio::sync::mpsc;

/// So many chunks are read ahead of who unpacks them.
const CHUNKS_MAX: usize = 8;

/// Feeds a registry's stream to a reader on another thread. Ends once the stream does, or once the reader is dropped.
pub(super) async fn feed(
    mut stream: BoxStream<'static, Result<Bytes>>,
    chunks: mpsc::Sender<Result<Bytes>>,
) {
    while let Some(chunk) = stream.next().await {
        if chunk.as_ref().is_ok_and(Bytes::is_empty) {
            continue;
        }
        let failed = chunk.is_err();
        if chunks.send(chunk).await.is_err() || failed {
            return;
        }
    }
    chunks.send(Ok(END)).await.ok();
}

/// Tells the end of a stream from a feeder that was dropped before it came there, and so before every byte was verified.
const END: Bytes = Bytes::new();

/// A pair of a feeder's and a reader's end.
pub(super) fn channel() -> (mpsc::Sender<Result<Bytes>>, Chunks) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let chunks = Chunks {
        receiver,
        rest: Bytes::new(),
        ended: false,
        failure: None,
    };
    (sender, chunks)
}

/// What a registry sends, as a blocking reader.
#[derive(Debug)]
pub(super) struct Chunks {
    receiver: mpsc::Receiver<Result<Bytes>>,
    rest: Bytes,
    ended: bool,
    failure: Option<Error>,
}

impl Chunks {
    /// Reads whatever is left, so that the registry verifies every byte, and returns the registry's error if there was one.
    pub(super) fn finish(mut self) -> Result<()> {
        io::copy(&mut self, &mut io::sink()).ok();
        self.failure.map_or(Ok(()), Err)
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() && !self.ended && self.failure.is_none() {
            let cut_short = || Err(Error::unavailable("the image was not fetched to its end"));
            match self.receiver.blocking_recv().unwrap_or_else(cut_short) {
                Ok(chunk) => {
                    self.ended = chunk.is_empty();
                    self.rest = chunk;
                }
                Err(error) => self.failure = Some(error),
            }
        }
        if let Some(failure) = &self.failure {
            return Err(io::Error::other(failure.to_string()));
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
