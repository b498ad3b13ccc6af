//! The platform's own registry, embedded.

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use tappaas_core::{
    Digest, Result,
    backend::{Content, Reference, Registry as Backend, Repository, Tag},
};

use crate::{Error, RepositoryName, Store, copy::collect};

/// The registry of a platform on one machine: straight to a [`Store`], with no server in between.
///
/// Its repositories are those without a host in their name.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Store,
}

impl Registry {
    /// A registry over this content.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    async fn push_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        mut bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()> {
        let mut writer = self.store.writer();
        while let Some(chunk) = bytes.try_next().await? {
            writer.write(chunk).await?;
        }
        self.store.commit(name, writer, Some(digest)).await?;
        Ok(())
    }

    async fn push_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()> {
        let content = collect(bytes, self.store.limits().manifest_bytes_max).await?;
        let actual = Digest::of(&content);
        if actual != *digest {
            let expected = digest.clone();
            return Err(Error::DigestMismatch { expected, actual }.into());
        }
        self.store.put_manifest(name, None, content, &[]).await?;
        Ok(())
    }
}

#[async_trait]
impl Backend for Registry {
    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        Ok(self
            .store
            .resolve(&repository.try_into()?, reference)
            .await?)
    }

    async fn pull(
        &self,
        repository: &Repository,
        content: &Content,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let name = repository.try_into()?;
        match content {
            Content::Blob(digest) => match self.store.blob(&name, digest).await? {
                Some(chunks) => Ok(chunks.map_err(Into::into).boxed()),
                None => Err(Error::BlobUnknown {
                    digest: digest.clone(),
                    repository: name,
                }
                .into()),
            },
            Content::Manifest(digest) => {
                let reference = Reference::Digest(digest.clone());
                match self.store.manifest(&name, &reference).await? {
                    Some(manifest) => Ok(stream::iter([Ok(manifest.content.into())]).boxed()),
                    None => Err(Error::ManifestUnknown {
                        repository: name,
                        reference,
                    }
                    .into()),
                }
            }
        }
    }

    async fn push(
        &self,
        repository: &Repository,
        content: &Content,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()> {
        let name = repository.try_into()?;
        match content {
            Content::Blob(digest) => self.push_blob(&name, digest, bytes).await,
            Content::Manifest(digest) => self.push_manifest(&name, digest, bytes).await,
        }
    }

    async fn tag(&self, repository: &Repository, digest: &Digest, tag: &Tag) -> Result<()> {
        Ok(self.store.tag(&repository.try_into()?, digest, tag).await?)
    }

    async fn list(&self, repository: &Repository) -> Result<Vec<Tag>> {
        let tags = self
            .store
            .tags(&repository.try_into()?, None, usize::MAX)
            .await?;
        Ok(tags.unwrap_or_default())
    }

    async fn delete(&self, repository: &Repository, reference: &Reference) -> Result<()> {
        self.store
            .delete(&repository.try_into()?, reference)
            .await?;
        Ok(())
    }
}
