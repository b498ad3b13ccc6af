use std::{fs::File, ops::Range, sync::Arc, time::Duration};

use tappaas_core::{
    Clock, Digest, Timestamp,
    backend::{Reference, Tag},
};

use crate::{
    Config, Error, Limits, RepositoryName, Result,
    blobs::{self, Blobs, Chunks, Disk, Writer, blocking},
    layout::{self, Collected, Fault, Manifest, Repositories},
};

/// The content of the embedded registry: blobs, manifests and tags in one directory, and nothing else.
///
/// A clone is another handle on the same content. What a method has changed is durable once it returns; kill -9 or a
/// power cut at any moment leaves every visible blob whole, and no tag or manifest that points at something missing.
#[derive(Clone, Debug)]
pub struct Store {
    repositories: Repositories,
    limits: Arc<Limits>,
    clock: Arc<dyn Clock>,
}

impl Store {
    /// Opens the registry in a directory, making it if it is missing, and removes what unfinished uploads left.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it open, [`Error::Format`] if it is something else or newer.
    pub async fn open(config: Config, clock: Arc<dyn Clock>) -> Result<Self> {
        let Config { path, limits } = config;
        let manifest_bytes_max = limits.manifest_bytes_max;
        let repositories = blocking(move || {
            let blobs = Blobs::open(Arc::new(Disk::open(&path)?))?;
            Repositories::open(blobs, manifest_bytes_max)
        })
        .await?;
        Ok(Self {
            repositories,
            limits: Arc::new(limits),
            clock,
        })
    }

    /// The bounds the registry was opened with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Begins to receive a blob.
    pub fn writer(&self) -> Writer {
        Writer::new(
            self.repositories.blobs().disk().staging().clone(),
            self.limits.blob_bytes_max,
        )
    }

    /// Ends a blob and gives it to a repository. Returns its digest.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] if it is not what was `expected`; then nothing of it stays.
    pub async fn commit(
        &self,
        repository: &RepositoryName,
        writer: Writer,
        expected: Option<&Digest>,
    ) -> Result<Digest> {
        let received = writer.finish().await?;
        let (repository, expected) = (repository.clone(), expected.cloned());
        self.run(move |all| all.receive(&repository, received, expected.as_ref()))
            .await
    }

    /// The size of a blob that the repository has. Asking begins its grace anew: see [`Self::collect`].
    pub async fn blob_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>> {
        let (repository, digest, now) = (repository.clone(), digest.clone(), self.now().into());
        self.run(move |all| all.find_blob(&repository, &digest, now))
            .await
    }

    /// Reads a whole blob. Damaged content ends in [`Error::Damaged`] before its last chunk.
    pub async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Chunks>> {
        let opened = self.open_blob(repository, digest).await?;
        Ok(opened.map(|(file, size)| blobs::verified(file, digest.clone(), size)))
    }

    /// Opens a blob and tells its size; to be read with [`Self::part`].
    pub(crate) async fn open_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(File, u64)>> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.run(move |all| all.blob_file(&repository, &digest))
            .await
    }

    /// Reads a part of an opened blob, unverified.
    pub(crate) fn part(file: File, digest: Digest, range: Range<u64>) -> Chunks {
        blobs::part(file, digest, range)
    }

    /// Gives `repository` a blob that `from` has; says whether `from` has it.
    pub async fn mount(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: &RepositoryName,
    ) -> Result<bool> {
        let (repository, digest, from) = (repository.clone(), digest.clone(), from.clone());
        self.run(move |all| all.mount(&repository, &digest, &from))
            .await
    }

    /// Takes a blob from a repository; says whether it had it.
    ///
    /// # Errors
    /// [`Error::InUse`] if a manifest of the repository names it.
    pub async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.run(move |all| all.delete_blob(&repository, &digest))
            .await
    }

    /// Keeps a manifest and points tags at it. Returns its digest.
    ///
    /// `declared` is the media type it was sent as, if that was said.
    ///
    /// # Errors
    /// [`Error::ManifestInvalid`], [`Error::ManifestBlobUnknown`] if the repository lacks what it names,
    /// [`Error::TooLarge`]; then nothing of it stays and no tag has moved.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        declared: Option<&str>,
        content: impl Into<bytes::Bytes>,
        tags: &[Tag],
    ) -> Result<Digest> {
        let content = content.into();
        let limit = self.limits.manifest_bytes_max;
        if content.len() as u64 > limit {
            return Err(Error::TooLarge {
                what: "manifest",
                limit,
            });
        }
        let (repository, declared, tags) = (
            repository.clone(),
            declared.map(str::to_owned),
            tags.to_vec(),
        );
        self.run(move |all| all.put_manifest(&repository, declared.as_deref(), &content, &tags))
            .await
    }

    /// Reads a manifest, verified.
    pub(crate) async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Manifest>> {
        let (repository, reference) = (repository.clone(), reference.clone());
        self.run(move |all| all.manifest(&repository, &reference))
            .await
    }

    /// The digest of a manifest that the repository has.
    pub async fn resolve(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        let (repository, reference) = (repository.clone(), reference.clone());
        self.run(move |all| all.resolve(&repository, &reference))
            .await
    }

    /// Points a tag at a manifest that the repository has.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`] if it has not.
    pub async fn tag(&self, repository: &RepositoryName, digest: &Digest, tag: &Tag) -> Result<()> {
        let (repository, digest, tag) = (repository.clone(), digest.clone(), tag.clone());
        self.run(move |all| all.tag(&repository, &digest, &tag))
            .await
    }

    /// Up to `limit` tags in order, from the first one after `after`; `None` if there is no such repository.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<Tag>>> {
        let (repository, after) = (repository.clone(), after.map(str::to_owned));
        self.run(move |all| all.tags(&repository, after.as_deref(), limit))
            .await
    }

    /// Removes a tag, or a manifest and every tag that points at it; says whether it was there.
    ///
    /// What the manifest named stays until it is collected.
    ///
    /// # Errors
    /// [`Error::InUse`] if an index of the repository names the manifest.
    pub async fn delete(&self, repository: &RepositoryName, reference: &Reference) -> Result<bool> {
        let (repository, reference, now) =
            (repository.clone(), reference.clone(), self.now().into());
        self.run(move |all| match &reference {
            Reference::Digest(digest) => all.delete_manifest(&repository, digest, now),
            Reference::Tag(tag) => all.delete_tag(&repository, tag),
        })
        .await
    }

    /// Removes blobs that no manifest names, and that were pushed, asked for or let go at least `grace` ago.
    ///
    /// Pushes and pulls go on meanwhile. What a manifest names, and what an upload in progress is about to add, stays.
    /// A client that pushes blobs has `grace` to push the manifest that names them: an hour is generous. Returns `None`
    /// if a collection is running already.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a manifest cannot be read; then no blob is removed.
    pub async fn collect(&self, grace: Duration) -> Result<Option<Collected>> {
        let now = self.now().into();
        self.run(move |all| layout::collect(all, now, grace)).await
    }

    /// Reads everything and reports what is wrong with it. Meant for a registry that nobody writes to meanwhile.
    pub async fn verify(&self) -> Result<Vec<Fault>> {
        self.run(layout::verify).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Repositories) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let repositories = self.repositories.clone();
        blocking(move || work(&repositories)).await
    }
}
