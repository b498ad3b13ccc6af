use std::{fs::File, ops::Range, os::unix::fs::FileExt as _};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use sha2::{Digest as _, Sha256};
use tappaas_core::Digest;

use crate::{Error, Result};

/// The bytes of a blob, in order. Nothing follows an error.
pub type Chunks = BoxStream<'static, Result<Bytes>>;

/// How much one read takes. Two are in memory per reader: one being sent, the next one being read.
const CHUNK_BYTES: u64 = 256 << 10;

/// Reads part of a blob; whoever wants the part trusts the disk, or verifies.
pub(crate) fn part(file: File, digest: Digest, range: Range<u64>) -> Chunks {
    chunks(Reading {
        file,
        digest,
        range,
        hash: None,
    })
}

/// Reads a whole blob. Content that does not hash to `digest` ends in [`Error::Damaged`] before its last chunk.
pub(crate) fn verified(file: File, digest: Digest, size: u64) -> Chunks {
    chunks(Reading {
        file,
        digest,
        range: 0..size,
        hash: Some(Sha256::new()),
    })
}

fn chunks(reading: Reading) -> Chunks {
    let first = tokio::task::spawn_blocking(|| reading.next());
    stream::try_unfold(Some(first), |ahead| async {
        let Some(ahead) = ahead else {
            return Ok(None);
        };
        let (chunk, rest) = ahead.await.map_err(|_| Error::Stopped)??;
        let ahead = rest.map(|rest| tokio::task::spawn_blocking(|| rest.next()));
        Ok(Some((chunk, ahead)))
    })
    .boxed()
}

struct Reading {
    file: File,
    digest: Digest,
    /// What is left to read.
    range: Range<u64>,
    /// Present if the content is verified.
    hash: Option<Sha256>,
}

impl Reading {
    /// Reads a chunk, and says what is left after it.
    fn next(mut self) -> Result<(Bytes, Option<Self>)> {
        let len = (self.range.end - self.range.start).min(CHUNK_BYTES);
        let mut chunk = vec![0; len as usize];
        self.file
            .read_exact_at(&mut chunk, self.range.start)
            .map_err(|error| self.failed(error))?;
        self.range.start += len;
        if let Some(hash) = &mut self.hash {
            hash.update(&chunk);
        }
        if !self.range.is_empty() {
            return Ok((chunk.into(), Some(self)));
        }
        let actual = self
            .hash
            .map(|hash| Digest::from_sha256(hash.finalize().into()));
        if actual.is_none_or(|actual| actual == self.digest) {
            Ok((chunk.into(), None))
        } else {
            Err(Error::Damaged(self.digest))
        }
    }

    fn failed(&self, error: std::io::Error) -> Error {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::Damaged(self.digest.clone()),
            _ => Error::io("read", self.digest.as_str(), error),
        }
    }
}
