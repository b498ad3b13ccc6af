use std::{
    fs::{File, Metadata},
    io::Read as _,
    path::PathBuf,
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use tappaas_core::Digest;

use super::{
    disk::{self, Disk},
    writer::Hashed,
};
use crate::{Error, Result};

const BLOBS: &str = "blobs/sha256";

/// The blobs themselves: `blobs/sha256/ab/abcd…`. Not async: call it from a blocking thread.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    disk: Arc<Disk>,
    root: PathBuf,
}

impl Blobs {
    pub(crate) fn open(disk: Arc<Disk>) -> Result<Self> {
        let root = disk.root().join(BLOBS);
        // All 256 shards now, so that no push has to make one.
        disk.ensure_directory(&root)?;
        for shard in 0..=u8::MAX {
            disk::make_directory(&root.join(hex::encode([shard])))?;
        }
        disk::sync_directory(&root)?;
        Ok(Self { disk, root })
    }

    pub(crate) fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(&digest.hex()[..2]).join(digest.hex())
    }

    /// The blob's size and age; `None` if it is not there.
    pub(crate) fn metadata(&self, digest: &Digest) -> Result<Option<Metadata>> {
        disk::metadata(&self.path(digest))
    }

    /// Opens a blob and tells its size; `None` if it is not there.
    pub(crate) fn file(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        let path = self.path(digest);
        let failed = |error| Error::io("open", &path, error);
        match File::open(&path) {
            Ok(file) => {
                let size = file.metadata().map_err(failed)?.len();
                Ok(Some((file, size)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Reads a small blob whole and verifies it; `None` if it is not there.
    pub(crate) fn bytes(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some((file, _)) = self.file(digest)? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut content)
            .map_err(|error| Error::io("read", self.path(digest), error))?;
        if Digest::of(&content) == *digest {
            Ok(Some(content))
        } else {
            Err(Error::Damaged(digest.clone()))
        }
    }

    /// Reads a blob and compares it with its address.
    pub(crate) fn verify(&self, digest: &Digest) -> Result<()> {
        let Some((mut file, _)) = self.file(digest)? else {
            return Ok(());
        };
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 256 << 10];
        loop {
            let count = file
                .read(&mut chunk)
                .map_err(|error| Error::io("read", self.path(digest), error))?;
            if count == 0 {
                break;
            }
            hash.update(&chunk[..count]);
        }
        if Digest::from_sha256(hash.finalize().into()) == *digest {
            Ok(())
        } else {
            Err(Error::Damaged(digest.clone()))
        }
    }

    /// Makes received content visible at its address.
    ///
    /// Content that is there already is replaced by itself: that costs a sync, and mends what a disk has damaged.
    pub(crate) fn publish(&self, content: Hashed) -> Result<()> {
        let path = self.path(&content.digest);
        content.publish(&path)
    }

    /// Stores a small blob.
    pub(crate) fn put(&self, content: &[u8]) -> Result<Digest> {
        let digest = Digest::of(content);
        self.disk.write(&self.path(&digest), content)?;
        Ok(digest)
    }

    /// The digests of one of the 256 shards.
    pub(crate) fn shard(&self, shard: u8) -> Result<Vec<Digest>> {
        let names = disk::entries(&self.root.join(hex::encode([shard])))?;
        Ok(names
            .into_iter()
            .filter_map(|name| format!("sha256:{name}").parse().ok())
            .collect())
    }

    pub(crate) fn remove(&self, digest: &Digest) -> Result<bool> {
        disk::remove(&self.path(digest))
    }
}
