use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;

use super::lock::lock;
use crate::{
    Digest, Error, Result,
    backend::{self, Content, Reference, Repository, Tag},
};

/// The most bytes of one blob.
const BLOB_BYTES_MAX: usize = 256 << 20;
/// The most bytes of one manifest, by the contract.
const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// Images in memory. Clones are the same registry.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<HashMap<Repository, Kept>>>);

#[derive(Debug, Default)]
struct Kept {
    blobs: HashMap<Digest, Bytes>,
    manifests: HashMap<Digest, Bytes>,
    tags: BTreeMap<Tag, Digest>,
}

impl Registry {
    /// Starts empty.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl backend::Registry for Registry {
    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        let repositories = lock(&self.0);
        let Some(kept) = repositories.get(repository) else {
            return Ok(None);
        };
        let digest = match reference {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(tag) => kept.tags.get(tag),
        };
        Ok(digest
            .filter(|digest| kept.manifests.contains_key(digest))
            .cloned())
    }

    async fn pull(
        &self,
        repository: &Repository,
        content: &Content,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let repositories = lock(&self.0);
        let kept = repositories.get(repository);
        let bytes = kept.and_then(|kept| match content {
            Content::Blob(digest) => kept.blobs.get(digest),
            Content::Manifest(digest) => kept.manifests.get(digest),
        });
        let bytes = bytes.cloned().ok_or_else(|| {
            Error::not_found(format!("{} is not in {repository}", content.digest()))
        })?;
        Ok(stream::iter([Ok(bytes)]).boxed())
    }

    async fn push(
        &self,
        repository: &Repository,
        content: &Content,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()> {
        let bytes = read(content, bytes).await?;
        let actual = Digest::of(&bytes);
        if actual != *content.digest() {
            return Err(Error::invalid(format!(
                "what was pushed as {} is {actual}",
                content.digest()
            )));
        }
        let mut repositories = lock(&self.0);
        match content {
            Content::Blob(digest) => {
                let kept = repositories.entry(repository.clone()).or_default();
                kept.blobs.insert(digest.clone(), bytes);
            }
            Content::Manifest(digest) => {
                let manifest = Manifest::parse(&bytes)?;
                let missing = manifest.names().find(|named| {
                    let kept = repositories.get(repository);
                    !kept.is_some_and(|kept| kept.has(named))
                });
                if let Some(missing) = missing {
                    return Err(Error::invalid(format!(
                        "manifest {digest} names {}, which is not in {repository}",
                        missing.digest()
                    )));
                }
                let kept = repositories.entry(repository.clone()).or_default();
                kept.manifests.insert(digest.clone(), bytes);
            }
        }
        Ok(())
    }

    async fn tag(&self, repository: &Repository, digest: &Digest, tag: &Tag) -> Result<()> {
        let mut repositories = lock(&self.0);
        let kept = repositories
            .get_mut(repository)
            .filter(|kept| kept.manifests.contains_key(digest))
            .ok_or_else(|| Error::not_found(format!("{digest} is not in {repository}")))?;
        kept.tags.insert(tag.clone(), digest.clone());
        Ok(())
    }

    async fn list(&self, repository: &Repository) -> Result<Vec<Tag>> {
        let repositories = lock(&self.0);
        let kept = repositories.get(repository);
        Ok(kept
            .map(|kept| kept.tags.keys().cloned().collect())
            .unwrap_or_default())
    }

    async fn delete(&self, repository: &Repository, reference: &Reference) -> Result<()> {
        let mut repositories = lock(&self.0);
        let Some(kept) = repositories.get_mut(repository) else {
            return Ok(());
        };
        match reference {
            Reference::Tag(tag) => {
                kept.tags.remove(tag);
            }
            Reference::Digest(digest) => {
                kept.manifests.remove(digest);
                kept.tags.retain(|_, tagged| tagged != digest);
            }
        }
        Ok(())
    }
}

impl Kept {
    fn has(&self, content: &Content) -> bool {
        match content {
            Content::Blob(digest) => self.blobs.contains_key(digest),
            Content::Manifest(digest) => self.manifests.contains_key(digest),
        }
    }
}

async fn read(content: &Content, mut bytes: BoxStream<'static, Result<Bytes>>) -> Result<Bytes> {
    let max = match content {
        Content::Blob(_) => BLOB_BYTES_MAX,
        Content::Manifest(_) => MANIFEST_BYTES_MAX,
    };
    let mut read = Vec::new();
    while let Some(chunk) = bytes.try_next().await? {
        if read.len() + chunk.len() > max {
            return Err(Error::exhausted(format!(
                "{} has more than {max} bytes",
                content.digest()
            )));
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.into())
}

/// What a manifest says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: Digest,
}

impl Manifest {
    /// Reads a manifest; one that two readers could take for different things is refused.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let invalid = |why: &str| Error::invalid(format!("manifest {} {why}", Digest::of(bytes)));
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| invalid("cannot be read").with_source(error))?;
        if manifest.schema_version != 2 {
            return Err(invalid("is not of schema version 2"));
        }
        let index = match manifest.media_type.as_deref() {
            Some("application/vnd.oci.image.index.v1+json")
            | Some("application/vnd.docker.distribution.manifest.list.v2+json") => true,
            Some("application/vnd.oci.image.manifest.v1+json")
            | Some("application/vnd.docker.distribution.manifest.v2+json") => false,
            Some(_) => return Err(invalid("is of an unknown media type")),
            None => manifest.manifests.is_some(),
        };
        let image = manifest.config.is_some() || manifest.layers.is_some();
        if index == image || index != manifest.manifests.is_some() {
            return Err(invalid("is not what its media type says"));
        }
        Ok(manifest)
    }

    /// Everything that must be there for it to be whole.
    pub(super) fn names(&self) -> impl Iterator<Item = Content> {
        let blobs = self.config.iter().chain(self.layers.iter().flatten());
        let blobs = blobs.map(|named| Content::Blob(named.digest.clone()));
        let manifests = self.manifests.iter().flatten();
        blobs.chain(manifests.map(|named| Content::Manifest(named.digest.clone())))
    }
}
