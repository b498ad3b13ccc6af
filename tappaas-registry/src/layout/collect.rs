use std::{
    collections::HashSet,
    fs::Metadata,
    time::{Duration, SystemTime},
};

use tappaas_core::Digest;

use super::repositories::Repositories;
use crate::{
    Error, RepositoryName, Result,
    blobs::{Sweep, disk},
};

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Collected {
    /// Blobs, manifests included.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries of blobs that no manifest of their repository names.
    pub entries: u64,
    /// Repositories that had nothing left.
    pub repositories: u64,
}

/// Removes what no manifest names and what has been so for at least `grace`.
///
/// Mark and sweep, while pushes and pulls go on. A manifest that cannot be read stops it before any blob is removed: what
/// that manifest names is not known. `None`: a collection is running already.
pub(crate) fn collect(
    repositories: &Repositories,
    now: SystemTime,
    grace: Duration,
) -> Result<Option<Collected>> {
    let Some(sweep) = repositories.pins().begin() else {
        return Ok(None);
    };
    let names = repositories.names()?;
    let mut collection = Collection {
        repositories,
        sweep,
        now,
        grace,
        live: HashSet::new(),
        collected: Collected::default(),
    };
    for name in &names {
        collection.mark(name)?;
    }
    for shard in 0..=u8::MAX {
        collection.sweep_blobs(shard)?;
    }
    for name in &names {
        collection.collected.repositories += u64::from(repositories.prune(name)?);
    }
    Ok(Some(collection.collected))
}

struct Collection<'a> {
    repositories: &'a Repositories,
    sweep: Sweep,
    now: SystemTime,
    grace: Duration,
    live: HashSet<Digest>,
    collected: Collected,
}

impl Collection<'_> {
    /// Marks what a repository has, after removing the entries that none of its manifests names.
    fn mark(&mut self, name: &RepositoryName) -> Result<()> {
        let manifests = self.repositories.manifests(name)?;
        let mut named = HashSet::new();
        for digest in &manifests {
            named.extend(self.named_by(name, digest)?);
        }
        for digest in self.repositories.blob_entries(name)? {
            if !named.contains(&digest) && self.remove_entry(name, &digest)? {
                self.collected.entries += 1;
            } else {
                self.live.insert(digest);
            }
        }
        self.live.extend(manifests);
        self.live.extend(named);
        Ok(())
    }

    fn remove_entry(&self, name: &RepositoryName, digest: &Digest) -> Result<bool> {
        let entry = self.repositories.blob_entry(name, digest);
        if !self.is_past_grace(disk::metadata(&entry)?) {
            return Ok(false);
        }
        let removed = self.sweep.unless_pinned(digest, || disk::remove(&entry));
        Ok(removed.transpose()?.unwrap_or(false))
    }

    fn sweep_blobs(&mut self, shard: u8) -> Result<()> {
        let blobs = self.repositories.blobs();
        for digest in blobs.shard(shard)? {
            let metadata = blobs.metadata(&digest)?;
            let size = metadata.as_ref().map_or(0, Metadata::len);
            if self.live.contains(&digest) || !self.is_past_grace(metadata) {
                continue;
            }
            let removed = self.sweep.unless_pinned(&digest, || blobs.remove(&digest));
            if removed.transpose()?.unwrap_or(false) {
                self.collected.blobs += 1;
                self.collected.bytes += size;
            }
        }
        Ok(())
    }

    fn named_by(&self, name: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>> {
        match self.repositories.parsed(name, digest) {
            Ok(Some(parsed)) => Ok(parsed.digests().cloned().collect()),
            // Deleted since it was listed; its grace has just begun.
            Ok(None) => Ok(Vec::new()),
            Err(Error::ManifestInvalid(_)) => Err(Error::Damaged(digest.clone())),
            Err(error) => Err(error),
        }
    }

    /// A file from the future, after a clock was set back, is new.
    fn is_past_grace(&self, metadata: Option<Metadata>) -> bool {
        let modified = metadata.and_then(|metadata| metadata.modified().ok());
        modified.is_some_and(|modified| {
            self.now.duration_since(modified).unwrap_or_default() >= self.grace
        })
    }
}
