use std::{fmt, mem, path::Path, sync::Arc};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tappaas_core::Digest;
use tokio::task::JoinHandle;

use super::{
    blocking,
    disk::{Staged, Staging},
};
use crate::{Error, Result};

/// How much is gathered before a blocking thread hashes and writes it. Up to twice as much is in memory per upload:
/// one batch on its way to the disk, the next one arriving.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_CHUNKS: usize = 1024;

/// Content on its way into the registry. Nobody sees it before it is committed; dropped, it is gone.
///
/// Every method may be cancelled: what was accepted stays accepted.
pub struct Writer {
    limit: u64,
    len: u64,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    flow: Flow,
}

impl Writer {
    pub(crate) fn new(staging: Arc<Staging>, limit: u64) -> Self {
        Self {
            limit,
            len: 0,
            gathered: Vec::new(),
            gathered_bytes: 0,
            flow: Flow::Idle(Sink {
                staging,
                staged: None,
                hash: Sha256::new(),
            }),
        }
    }

    /// How many bytes have been accepted.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Says whether nothing has been accepted yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Accepts more content. Waits while the disk is slower than the sender.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond the limit, [`Error::Full`] or [`Error::Io`] if an earlier batch could not be
    /// written; after these two the content is lost, and every further call fails.
    pub async fn write(&mut self, chunk: Bytes) -> Result<()> {
        let len = self.len.saturating_add(chunk.len() as u64);
        if len > self.limit {
            let limit = self.limit;
            return Err(Error::TooLarge {
                what: "blob",
                limit,
            });
        }
        self.len = len;
        self.gathered_bytes += chunk.len();
        self.gathered.push(chunk);
        if self.gathered_bytes >= BATCH_BYTES || self.gathered.len() >= BATCH_CHUNKS {
            let sink = self.idle().await?;
            let batch = self.take_batch();
            self.flow = Flow::Busy(tokio::task::spawn_blocking(move || sink.append(&batch)));
        }
        Ok(())
    }

    /// Ends the content. What remains to be done blocks, and is left to the caller's blocking thread.
    pub(crate) async fn finish(mut self) -> Result<Received> {
        let sink = self.idle().await?;
        let rest = self.take_batch();
        Ok(Received { sink, rest })
    }

    /// Throws away what was accepted; returns once it is gone.
    pub(crate) async fn discard(mut self) {
        if let Ok(sink) = self.idle().await {
            // Removing a large file takes long enough to do it elsewhere.
            let _stopping = blocking(move || {
                drop(sink);
                Ok(())
            })
            .await;
        }
    }

    fn take_batch(&mut self) -> Vec<Bytes> {
        self.gathered_bytes = 0;
        mem::take(&mut self.gathered)
    }

    /// Waits for the batch under way, and takes the sink. Until it is put back the writer counts as broken.
    async fn idle(&mut self) -> Result<Sink> {
        if let Flow::Busy(task) = &mut self.flow {
            let done = task.await;
            self.flow = Flow::Broken;
            self.flow = Flow::Idle(done.map_err(|_| Error::Stopped)??);
        }
        match mem::replace(&mut self.flow, Flow::Broken) {
            Flow::Idle(sink) => Ok(sink),
            Flow::Busy(_) | Flow::Broken => Err(Error::Lost),
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

enum Flow {
    Idle(Sink),
    Busy(JoinHandle<Result<Sink>>),
    /// A batch was lost.
    Broken,
}

/// The staged file, made with the first batch, and the hash of what is in it.
struct Sink {
    staging: Arc<Staging>,
    staged: Option<Staged>,
    hash: Sha256,
}

impl Sink {
    fn append(mut self, batch: &[Bytes]) -> Result<Self> {
        let mut staged = match self.staged.take() {
            Some(staged) => staged,
            None => self.staging.stage()?,
        };
        for chunk in batch {
            self.hash.update(chunk);
            staged.append(chunk)?;
        }
        self.staged = Some(staged);
        Ok(self)
    }
}

/// Content that has arrived whole, the last batch not yet hashed and written.
pub(crate) struct Received {
    sink: Sink,
    rest: Vec<Bytes>,
}

impl Received {
    /// Hashes and writes what remains, and compares with what the sender announced. Blocks.
    pub(crate) fn verify(self, expected: Option<&Digest>) -> Result<Hashed> {
        let mut sink = self.sink.append(&self.rest)?;
        let staged = match sink.staged.take() {
            Some(staged) => staged,
            None => sink.staging.stage()?,
        };
        let actual = Digest::from_sha256(sink.hash.finalize().into());
        match expected {
            Some(expected) if *expected != actual => Err(Error::DigestMismatch {
                expected: expected.clone(),
                actual,
            }),
            _ => Ok(Hashed {
                staged,
                digest: actual,
            }),
        }
    }
}

/// Content that is staged and whose digest is known.
pub(crate) struct Hashed {
    staged: Staged,
    pub(crate) digest: Digest,
}

impl Hashed {
    /// Makes the content visible at `target`, whole and durable.
    pub(crate) fn publish(self, target: &Path) -> Result<()> {
        self.staged.publish(target)
    }
}
