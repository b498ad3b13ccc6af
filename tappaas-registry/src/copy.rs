use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tappaas_core::{
    Digest, Error, Result,
    backend::{Content, Image, Reference, Registry, Repository},
};

use crate::layout::{MANIFEST_BYTES_MAX, parse_manifest};

/// How deep indexes may be nested in each other.
const DEPTH_MAX: usize = 4;

/// Copies an image, or an index with all its images, from one registry to another.
///
/// Content goes first and what names it after, so that a copy that breaks off leaves nothing half; done again, it skips the
/// images that have arrived. No tag is set.
///
/// # Errors
/// `NotFound` if the source lacks something, and whatever either registry answers.
pub async fn copy(
    from: &dyn Registry,
    image: &Image,
    to: &dyn Registry,
    target: &Repository,
) -> Result<()> {
    let mut copy = Copy {
        from,
        source: &image.repository,
        to,
        target,
        copied: HashSet::new(),
    };
    copy.manifest(image.digest.clone(), DEPTH_MAX).await
}

struct Copy<'a> {
    from: &'a dyn Registry,
    source: &'a Repository,
    to: &'a dyn Registry,
    target: &'a Repository,
    copied: HashSet<Digest>,
}

impl Copy<'_> {
    fn manifest(&mut self, digest: Digest, depth: usize) -> BoxFuture<'_, Result<()>> {
        async move {
            let there = self
                .to
                .resolve(self.target, &Reference::Digest(digest.clone()))
                .await?;
            if there.is_some() {
                return Ok(());
            }
            let address = Content::Manifest(digest);
            let content = collect(
                self.from.pull(self.source, &address).await?,
                MANIFEST_BYTES_MAX,
            )
            .await?;
            let parsed = parse_manifest(&content, None)?;
            if depth == 0 && !parsed.manifests.is_empty() {
                return Err(Error::invalid(format!(
                    "indexes are nested more than {DEPTH_MAX} deep"
                )));
            }
            for named in parsed.blobs {
                self.blob(named.digest).await?;
            }
            for named in parsed.manifests {
                self.manifest(named.digest, depth - 1).await?;
            }
            let content = stream::iter([Ok(content)]).boxed();
            self.to.push(self.target, &address, content).await
        }
        .boxed()
    }

    async fn blob(&mut self, digest: Digest) -> Result<()> {
        if self.copied.contains(&digest) {
            return Ok(());
        }
        let address = Content::Blob(digest.clone());
        let chunks = self.from.pull(self.source, &address).await?;
        self.to.push(self.target, &address, chunks).await?;
        self.copied.insert(digest);
        Ok(())
    }
}

/// Gathers a manifest, which has a bound.
pub(crate) async fn collect(
    mut chunks: BoxStream<'static, Result<Bytes>>,
    limit: u64,
) -> Result<Bytes> {
    let mut content = BytesMut::new();
    while let Some(chunk) = chunks.try_next().await? {
        if (content.len() + chunk.len()) as u64 > limit {
            return Err(crate::Error::TooLarge {
                what: "manifest",
                limit,
            }
            .into());
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content.freeze())
}
