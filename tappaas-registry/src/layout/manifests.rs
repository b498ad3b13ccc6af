use std::time::SystemTime;

use tappaas_core::{
    Digest,
    backend::{Reference, Tag},
};

use super::{
    manifest::{self, Descriptor, MediaType, Parsed},
    repositories::{Repositories, unreadable},
};
use crate::{Error, RepositoryName, Result, blobs::disk};

/// A manifest with its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: MediaType,
    pub(crate) content: Vec<u8>,
}

impl Repositories {
    /// Keeps a manifest, and points tags at it. Everything it names must be in the repository.
    pub(crate) fn put_manifest(
        &self,
        repository: &RepositoryName,
        declared: Option<&str>,
        content: &[u8],
        tags: &[Tag],
    ) -> Result<Digest> {
        let parsed = manifest::parse(content, declared)?;
        let digest = Digest::of(content);
        let named = parsed.digests().chain([&digest]).cloned().collect();
        let _pin = self.pins().pin(named);
        let _alone = self.exclusive(repository);
        self.require_all(repository, &parsed)?;
        self.blobs().put(content)?;
        let entry = self.manifest_entry(repository, &digest);
        self.write(&entry, parsed.media_type.as_str())?;
        for tag in tags {
            self.write(&self.tag_path(repository, tag), digest.as_str())?;
        }
        Ok(digest)
    }

    /// Reads a manifest whole and verifies it.
    pub(crate) fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Manifest>> {
        let Some(digest) = self.resolve(repository, reference)? else {
            return Ok(None);
        };
        let Some(media_type) = self.media_type(repository, &digest)? else {
            return Ok(None);
        };
        let content = self.blobs().bytes(&digest, self.manifest_bytes_max)?;
        let content = content.ok_or_else(|| Error::Damaged(digest.clone()))?;
        Ok(Some(Manifest {
            digest,
            media_type,
            content,
        }))
    }

    /// The kind of a manifest that the repository has.
    pub(super) fn media_type(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<MediaType>> {
        let path = self.manifest_entry(repository, digest);
        let Some(content) = disk::read(&path)? else {
            return Ok(None);
        };
        match std::str::from_utf8(&content).map(MediaType::parse) {
            Ok(Some(media_type)) => Ok(Some(media_type)),
            _ => Err(unreadable(&path)),
        }
    }

    /// Removes a manifest and the tags that point at it; says whether there was one. `now` begins the grace of what
    /// nothing names any more.
    pub(crate) fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        now: SystemTime,
    ) -> Result<bool> {
        let _alone = self.exclusive(repository);
        if self.media_type(repository, digest)?.is_none() {
            return Ok(false);
        }
        self.refuse_if_named(repository, digest)?;
        for tag in self.tags(repository, None, usize::MAX)?.unwrap_or_default() {
            if self.tagged(repository, &tag)?.as_ref() == Some(digest) {
                disk::remove(&self.tag_path(repository, &tag))?;
            }
        }
        self.let_go(repository, digest, now)?;
        disk::remove(&self.manifest_entry(repository, digest))
    }

    /// What a manifest of the repository says.
    pub(crate) fn parsed(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Parsed>> {
        match self.manifest(repository, &Reference::Digest(digest.clone()))? {
            Some(found) => {
                manifest::parse(&found.content, Some(found.media_type.as_str())).map(Some)
            }
            None => Ok(None),
        }
    }

    /// What a manifest needs and its repository does not have, or has otherwise than it says.
    pub(crate) fn require_all(&self, repository: &RepositoryName, parsed: &Parsed) -> Result<()> {
        for named in &parsed.blobs {
            let size = self.blob_size(repository, &named.digest)?;
            require_size(repository, named, size)?;
        }
        for named in &parsed.manifests {
            let media_type = self.media_type(repository, &named.digest)?;
            let size = self
                .blobs()
                .metadata(&named.digest)?
                .map(|metadata| metadata.len());
            require_size(repository, named, media_type.and(size))?;
            if media_type != MediaType::parse(&named.media_type) {
                return Err(Error::ManifestInvalid(format!(
                    "it calls {} a `{}`, which it is not",
                    named.digest,
                    named.media_type.escape_default()
                )));
            }
        }
        Ok(())
    }

    pub(super) fn refuse_if_named(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<()> {
        for by in self.manifests(repository)? {
            let parsed = self.parsed(repository, &by)?;
            if parsed.is_some_and(|parsed| parsed.digests().any(|named| named == digest)) {
                let digest = digest.clone();
                return Err(Error::InUse { digest, by });
            }
        }
        Ok(())
    }

    /// Lets the grace of a manifest that goes, and of all it names, begin now.
    fn let_go(&self, repository: &RepositoryName, digest: &Digest, now: SystemTime) -> Result<()> {
        let mut paths = vec![self.blobs().path(digest)];
        if let Some(parsed) = self.parsed(repository, digest)? {
            paths.extend(
                parsed
                    .digests()
                    .map(|named| self.blob_entry(repository, named)),
            );
        }
        for path in paths {
            disk::touch(&path, now)?;
        }
        Ok(())
    }
}

fn require_size(repository: &RepositoryName, named: &Descriptor, size: Option<u64>) -> Result<()> {
    match size {
        Some(size) if size == named.size => Ok(()),
        Some(size) => Err(Error::ManifestInvalid(format!(
            "it says that {} has {} bytes, but it has {size}",
            named.digest, named.size
        ))),
        None => Err(Error::ManifestBlobUnknown {
            digest: named.digest.clone(),
            repository: repository.clone(),
        }),
    }
}
