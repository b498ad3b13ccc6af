use std::{fs::File, path::Path};

use futures::stream::TryStreamExt as _;
use tappaas_core::{
    Digest, Error, Result,
    backend::{Content, Registry, Repository},
};
use tokio::io::AsyncWriteExt as _;

use crate::{
    archive::{Limits, Owner, Unpacked, display_bytes, unpack},
    fault::Context as _,
};

/// The largest archive, compressed: whatever may be packed may be built.
const ARCHIVE_MAX: u64 = Limits::SOURCE.bytes;

/// Fetches an uploaded archive into a file. The registry verifies it.
pub(super) async fn fetch(
    registry: &dyn Registry,
    repository: &Repository,
    digest: &Digest,
    file: &Path,
) -> Result<()> {
    let write = || format!("write {}", file.display());
    let mut chunks = registry
        .pull(repository, &Content::Blob(digest.clone()))
        .await?;
    let mut out = tokio::fs::File::create(file).await.context(write)?;
    let mut size = 0;
    while let Some(chunk) = chunks.try_next().await? {
        size += chunk.len() as u64;
        if size > ARCHIVE_MAX {
            return Err(Error::exhausted(format!(
                "the source archive is larger than {}",
                display_bytes(ARCHIVE_MAX)
            )));
        }
        out.write_all(&chunk).await.context(write)?;
    }
    out.flush().await.context(write)?;
    Ok(())
}

/// Unpacks a fetched archive. Blocks.
pub(super) fn unpack_into(file: &Path, folder: &Path, owner: Option<u32>) -> Result<Unpacked> {
    let archive = File::open(file).context(|| format!("open {}", file.display()))?;
    let owner = owner.map(|id| Owner {
        user: id,
        group: id,
    });
    Ok(unpack(archive, folder, owner, &Limits::SOURCE)?)
}
