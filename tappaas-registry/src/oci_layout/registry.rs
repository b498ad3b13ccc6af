use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use nix::fcntl::OFlag;
use serde_json::json;
use tappaas_core::{
    Digest, Error, Result,
    backend::{Content, Reference, Registry as Backend, Repository, Tag},
};
use tokio::sync::OnceCell;

use super::index::Index;
use crate::{
    Limits, Writer,
    blobs::{self, Staging, blocking},
    copy::collect,
    layout::{MANIFEST_BYTES_MAX, parse_manifest},
};

const MARKER: &str = "oci-layout";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256";
const STAGING: &str = ".staging";

/// An OCI image layout, as a registry that has a single repository.
///
/// Other repositories are empty, and pushing to them is [`tappaas_core::ErrorKind::Unsupported`]. An image is in the
/// layout's index, and so visible to other programs, once it has a tag. One process may write at a time.
#[derive(Clone, Debug)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    repository: Repository,
    staging: Arc<Staging>,
    /// Set once the staging directory is there and empty. A layout that is only read is not written to.
    ready: OnceCell<()>,
    /// Held while the index is changed.
    writing: Mutex<()>,
}

impl Registry {
    /// Opens the layout in a directory as that repository.
    ///
    /// # Errors
    /// `NotFound` if there is no layout, `Unsupported` if it is of a version that is not known.
    pub async fn open(path: impl Into<PathBuf>, repository: Repository) -> Result<Self> {
        let registry = Self::new(path.into(), repository);
        registry.run(|inner| inner.check()).await?;
        Ok(registry)
    }

    /// Makes an empty layout in a directory that is empty or missing.
    ///
    /// # Errors
    /// `AlreadyExists` if there is something in the directory.
    pub async fn create(path: impl Into<PathBuf>, repository: Repository) -> Result<Self> {
        let registry = Self::new(path.into(), repository);
        registry.run(|inner| inner.create()).await?;
        Ok(registry)
    }

    /// The images in the layout's index, and their tags if they have one.
    pub async fn images(&self) -> Result<Vec<(Digest, Option<Tag>)>> {
        self.run(|inner| {
            let index = inner.index()?;
            Ok(index
                .images()
                .map(|(digest, tag)| (digest.clone(), tag))
                .collect())
        })
        .await
    }

    fn new(root: PathBuf, repository: Repository) -> Self {
        Self {
            inner: Arc::new(Inner {
                staging: Arc::new(Staging::new(root.join(STAGING))),
                root,
                repository,
                ready: OnceCell::new(),
                writing: Mutex::new(()),
            }),
        }
    }

    fn is_own(&self, repository: &Repository) -> bool {
        self.inner.repository == *repository
    }

    /// Refuses another repository, and gets ready to write to this one.
    async fn write_to(&self, repository: &Repository) -> Result<()> {
        if self.is_own(repository) {
            let ready = self
                .inner
                .ready
                .get_or_try_init(|| self.run(|inner| inner.prepare()));
            return ready.await.copied();
        }
        let own = &self.inner.repository;
        let message = format!("image layout has only the repository `{own}`, not `{repository}`");
        Err(Error::unsupported(message))
    }

    async fn push_blob(
        &self,
        digest: Digest,
        mut bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()> {
        let limit = Limits::default().blob_bytes_max;
        let mut writer = Writer::new(self.inner.staging.clone(), limit);
        while let Some(chunk) = bytes.try_next().await? {
            writer.write(chunk).await?;
        }
        let received = writer.finish().await?;
        self.run(move |inner| {
            Ok(received
                .verify(Some(&digest))?
                .publish(&inner.path(&digest))?)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.inner.clone();
        blocking(move || Ok(work(&inner))).await?
    }
}

#[async_trait]
impl Backend for Registry {
    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        if !self.is_own(repository) {
            return Ok(None);
        }
        let reference = reference.clone();
        self.run(move |inner| match reference {
            Reference::Digest(digest) => Ok(inner.open(&inner.path(&digest))?.map(|_| digest)),
            Reference::Tag(tag) => {
                let index = inner.index()?;
                let mut images = index.images();
                Ok(images
                    .find(|(_, found)| found.as_ref() == Some(&tag))
                    .map(|(digest, _)| digest.clone()))
            }
        })
        .await
    }

    async fn pull(
        &self,
        repository: &Repository,
        content: &Content,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let digest = content.digest().clone();
        let unknown = Error::not_found(format!("image layout has no {digest} in `{repository}`"));
        if !self.is_own(repository) {
            return Err(unknown);
        }
        let opened = self.run({
            let digest = digest.clone();
            move |inner| inner.open(&inner.path(&digest))
        });
        let (file, size) = opened.await?.ok_or(unknown)?;
        let chunks = blobs::verified(file, digest, size);
        Ok(chunks.map_err(Into::into).boxed())
    }

    async fn push(
        &self,
        repository: &Repository,
        content: &Content,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()> {
        self.write_to(repository).await?;
        match content {
            Content::Blob(digest) => self.push_blob(digest.clone(), bytes).await,
            Content::Manifest(digest) => {
                let (content, digest) = (collect(bytes, MANIFEST_BYTES_MAX).await?, digest.clone());
                self.run(move |inner| inner.put_manifest(&digest, &content))
                    .await
            }
        }
    }

    async fn tag(&self, repository: &Repository, digest: &Digest, tag: &Tag) -> Result<()> {
        self.write_to(repository).await?;
        let (digest, tag) = (digest.clone(), tag.clone());
        self.run(move |inner| {
            let content = inner.read(&inner.path(&digest))?;
            let media_type = parse_manifest(&content, None)?.media_type;
            inner.change(|index| index.tag(&tag, media_type, digest, content.len() as u64))
        })
        .await
    }

    async fn list(&self, repository: &Repository) -> Result<Vec<Tag>> {
        if !self.is_own(repository) {
            return Ok(Vec::new());
        }
        let images = self.images().await?;
        let tags: BTreeSet<Tag> = images.into_iter().filter_map(|(_, tag)| tag).collect();
        Ok(tags.into_iter().collect())
    }

    async fn delete(&self, repository: &Repository, reference: &Reference) -> Result<()> {
        if !self.is_own(repository) {
            return Ok(());
        }
        let reference = reference.clone();
        self.run(move |inner| match reference {
            Reference::Digest(digest) => {
                inner.change(|index| index.remove(&digest))?;
                blobs::disk::remove(&inner.path(&digest))?;
                Ok(())
            }
            Reference::Tag(tag) => inner.change(|index| index.untag(&tag)),
        })
        .await
    }
}

/// The directory. Not async: call it from a blocking thread.
impl Inner {
    fn create(&self) -> Result<()> {
        let failed = |error| crate::Error::io("create", &self.root, error);
        fs::create_dir_all(&self.root).map_err(failed)?;
        if !blobs::disk::entries(&self.root)?.is_empty() {
            let path = self.root.display();
            return Err(Error::already_exists(format!(
                "{path} is not empty; an image layout needs a directory of its own"
            )));
        }
        fs::create_dir_all(self.root.join(BLOBS)).map_err(failed)?;
        self.prepare()?;
        let marker = json!({"imageLayoutVersion": "1.0.0"}).to_string();
        self.staging
            .write(&self.root.join(MARKER), marker.as_bytes())?;
        self.write_index(&Index::new())
    }

    fn prepare(&self) -> Result<()> {
        let path = self.root.join(STAGING);
        fs::create_dir_all(&path).map_err(|error| crate::Error::io("create", &path, error))?;
        Ok(self.staging.clear()?)
    }

    fn check(&self) -> Result<()> {
        let marker: serde_json::Value = self.json(MARKER)?;
        match marker["imageLayoutVersion"].as_str() {
            Some(version) if version.starts_with("1.") => {}
            _ => {
                let path = self.root.display();
                return Err(Error::unsupported(format!(
                    "{path} is not an image layout of version 1"
                )));
            }
        }
        self.index().map(drop)
    }

    fn put_manifest(&self, digest: &Digest, content: &[u8]) -> Result<()> {
        let actual = Digest::of(content);
        if actual != *digest {
            let expected = digest.clone();
            return Err(crate::Error::DigestMismatch { expected, actual }.into());
        }
        for named in parse_manifest(content, None)?.digests() {
            if self.open(&self.path(named))?.is_none() {
                return Err(Error::invalid(format!(
                    "manifest names {named}, which the image layout lacks; push that first"
                )));
            }
        }
        Ok(self.staging.write(&self.path(digest), content)?)
    }

    fn change(&self, change: impl FnOnce(&mut Index)) -> Result<()> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = self.index()?;
        change(&mut index);
        self.write_index(&index)
    }

    fn index(&self) -> Result<Index> {
        self.json(INDEX)
    }

    fn write_index(&self, index: &Index) -> Result<()> {
        let content = serde_json::to_vec(index).map_err(|error| {
            Error::internal("cannot write an image layout's index").with_source(error)
        })?;
        Ok(self.staging.write(&self.root.join(INDEX), &content)?)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        let path = self.root.join(name);
        serde_json::from_slice(&self.read(&path)?).map_err(|error| {
            Error::invalid(format!(
                "{} is not what an image layout has there",
                path.display()
            ))
            .with_source(error)
        })
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let missing = || Error::not_found(format!("image layout has no {}", path.display()));
        let (file, size) = self.open(path)?.ok_or_else(missing)?;
        if size > MANIFEST_BYTES_MAX {
            return Err(Error::invalid(format!(
                "{} is larger than {MANIFEST_BYTES_MAX} bytes",
                path.display()
            )));
        }
        let mut content = Vec::new();
        file.take(size)
            .read_to_end(&mut content)
            .map_err(|error| crate::Error::io("read", path, error))?;
        Ok(content)
    }

    /// Opens a file that is nothing but a file: a layout may come from anywhere, and a link in it point anywhere.
    fn open(&self, path: &Path) -> Result<Option<(File, u64)>> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let failed = |error| crate::Error::io("open", path, error);
        let file = match OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(path)
        {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error).into()),
        };
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_file() {
            Ok(Some((file, metadata.len())))
        } else {
            Err(Error::invalid(format!("{} is not a file", path.display())))
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(BLOBS).join(digest.hex())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nothing else is to be in a layout; what cannot be removed does no harm.
        let _left = fs::remove_dir(self.root.join(STAGING));
    }
}
