use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tappaas_core::{
    Digest, Error, Result,
    backend::{Content, Reference, Registry, Repository, Tag},
};

use super::RegistryFixture;

/// A repository under test.
#[derive(Debug)]
pub struct Shelf {
    /// Its registry.
    pub registry: Arc<dyn Registry>,
    /// Its name.
    pub repository: Repository,
}

/// An image of one small layer.
#[derive(Clone, Debug)]
pub struct SmallImage {
    /// Its configuration.
    pub config: Bytes,
    /// Its layer.
    pub layer: Bytes,
    /// Its manifest.
    pub manifest: Bytes,
}

impl SmallImage {
    /// Makes an image whose layer has this content.
    pub fn new(content: &str) -> Self {
        let config = json!({ "architecture": "amd64", "os": "linux" }).to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            "layers": [describe("application/vnd.oci.image.layer.v1.tar", content.as_bytes())],
        });
        Self {
            config: config.into(),
            layer: Bytes::copy_from_slice(content.as_bytes()),
            manifest: manifest.to_string().into(),
        }
    }

    /// The digest of its manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}

/// A descriptor, as manifests have it.
pub(super) fn describe(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(content), "size": content.len() })
}

impl Shelf {
    /// The repository of this name.
    pub fn new(fixture: &dyn RegistryFixture, name: &str) -> Self {
        Self {
            registry: fixture.registry(),
            repository: fixture.repository(name),
        }
    }

    /// Pushes bytes in small chunks under their own digest.
    ///
    /// # Errors
    /// As the registry says.
    pub async fn push_blob(&self, bytes: &[u8]) -> Result<Content> {
        let content = Content::Blob(Digest::of(bytes));
        self.push(&content, bytes).await?;
        Ok(content)
    }

    /// Pushes a manifest under its own digest.
    ///
    /// # Errors
    /// As the registry says.
    pub async fn push_manifest(&self, bytes: &[u8]) -> Result<Content> {
        let content = Content::Manifest(Digest::of(bytes));
        self.push(&content, bytes).await?;
        Ok(content)
    }

    /// Pushes an image, everything before what names it.
    ///
    /// # Errors
    /// As the registry says.
    pub async fn push_image(&self, image: &SmallImage) -> Result<Digest> {
        self.push_blob(&image.config).await?;
        self.push_blob(&image.layer).await?;
        self.push_manifest(&image.manifest).await?;
        Ok(image.digest())
    }

    /// Pushes bytes in chunks of different sizes, the first one empty.
    ///
    /// # Errors
    /// As the registry says.
    pub async fn push(&self, content: &Content, bytes: &[u8]) -> Result<()> {
        let mut chunks = vec![Ok(Bytes::new())];
        let (head, tail) = bytes.split_at(bytes.len().min(7));
        chunks.extend(
            head.chunks(1)
                .map(|chunk| Ok(Bytes::copy_from_slice(chunk))),
        );
        chunks.extend(
            tail.chunks(100_000)
                .map(|chunk| Ok(Bytes::copy_from_slice(chunk))),
        );
        let chunks = stream::iter(chunks).boxed();
        self.registry.push(&self.repository, content, chunks).await
    }

    /// Pushes bytes whose sender breaks off in the end.
    ///
    /// # Errors
    /// As the registry says.
    pub async fn push_broken(&self, content: &Content, bytes: &[u8]) -> Result<()> {
        let broken = Err(Error::unavailable("the sender broke off"));
        let chunks = stream::iter([Ok(Bytes::copy_from_slice(bytes)), broken]).boxed();
        self.registry.push(&self.repository, content, chunks).await
    }

    /// Pulls content whole.
    ///
    /// # Errors
    /// As the registry says, at once or while it streams.
    pub async fn pull(&self, content: &Content) -> Result<Bytes> {
        let chunks = self.registry.pull(&self.repository, content).await?;
        let chunks: Vec<Bytes> = chunks.try_collect().await?;
        Ok(chunks.concat().into())
    }

    /// What a tag points at.
    ///
    /// # Errors
    /// As the registry says.
    pub async fn resolve(&self, tag: &str) -> Result<Option<Digest>> {
        let tag = Reference::Tag(self::tag(tag));
        self.registry.resolve(&self.repository, &tag).await
    }

    /// Points a tag at a manifest.
    ///
    /// # Errors
    /// As the registry says.
    pub async fn tag(&self, digest: &Digest, tag: &str) -> Result<()> {
        self.registry
            .tag(&self.repository, digest, &self::tag(tag))
            .await
    }
}

/// A tag known to be one.
pub(super) fn tag(tag: &str) -> Tag {
    tag.parse().expect("suites use valid tags")
}
