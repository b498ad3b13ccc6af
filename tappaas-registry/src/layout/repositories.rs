use std::{
    collections::BTreeSet,
    fs::File,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::SystemTime,
};

use tappaas_core::{
    Digest,
    backend::{Reference, Tag},
};

use crate::{
    Error, RepositoryName, Result,
    blobs::{Blobs, Pins, Received, disk},
};

const BLOBS: &str = "_blobs";
const MANIFESTS: &str = "_manifests";
const TAGS: &str = "_tags";
const LOCKS: usize = 64;

/// The repositories: which has what. Not async: call it from a blocking thread.
#[derive(Clone, Debug)]
pub(crate) struct Repositories {
    root: PathBuf,
    blobs: Blobs,
    pins: Pins,
    pub(super) manifest_bytes_max: u64,
    /// Shared to give a repository blobs, exclusive for all that must not overlap. Many repositories share one.
    locks: Arc<[RwLock<()>; LOCKS]>,
}

impl Repositories {
    pub(crate) fn open(blobs: Blobs, manifest_bytes_max: u64) -> Result<Self> {
        let root = blobs.disk().root().join("repositories");
        blobs.disk().ensure_directory(&root)?;
        Ok(Self {
            root,
            blobs,
            pins: Pins::default(),
            manifest_bytes_max,
            locks: Arc::new([const { RwLock::new(()) }; LOCKS]),
        })
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    pub(crate) fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Verifies what was received, and gives it to a repository.
    pub(crate) fn receive(
        &self,
        repository: &RepositoryName,
        received: Received,
        expected: Option<&Digest>,
    ) -> Result<Digest> {
        let hashed = received.verify(expected)?;
        let digest = hashed.digest.clone();
        let _pin = self.pins.pin(vec![digest.clone()]);
        self.blobs.publish(hashed)?;
        self.enter(repository, &digest)?;
        Ok(digest)
    }

    /// Gives a repository a blob of another one; says whether the other one had it.
    pub(crate) fn mount(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: &RepositoryName,
    ) -> Result<bool> {
        let _pin = self.pins.pin(vec![digest.clone()]);
        if self.blob_size(from, digest)?.is_none() {
            return Ok(false);
        }
        self.enter(repository, digest)?;
        Ok(true)
    }

    /// The size of a blob that the repository has.
    pub(crate) fn blob_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>> {
        // Whoever relies on a blob may go on and name it: a collection under way must spare it.
        let _pin = self.pins.pin(vec![digest.clone()]);
        if disk::metadata(&self.entry(repository, BLOBS, digest))?.is_none() {
            return Ok(None);
        }
        Ok(self.blobs.metadata(digest)?.map(|metadata| metadata.len()))
    }

    /// Tells the size of a blob that the repository has to somebody who will name it, and so begins its grace anew.
    pub(crate) fn find_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        now: SystemTime,
    ) -> Result<Option<u64>> {
        let size = self.blob_size(repository, digest)?;
        if size.is_some() {
            disk::touch(&self.blob_entry(repository, digest), now)?;
        }
        Ok(size)
    }

    /// Opens a blob that the repository has.
    pub(crate) fn blob_file(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(File, u64)>> {
        match disk::metadata(&self.entry(repository, BLOBS, digest))? {
            Some(_) => self.blobs.file(digest),
            None => Ok(None),
        }
    }

    /// Takes a blob from a repository; says whether it had it.
    pub(crate) fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        let _alone = self.exclusive(repository);
        let entry = self.entry(repository, BLOBS, digest);
        if disk::metadata(&entry)?.is_none() {
            return Ok(false);
        }
        self.refuse_if_named(repository, digest)?;
        disk::remove(&entry)
    }

    /// Points a tag at a manifest that the repository has.
    pub(crate) fn tag(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        tag: &Tag,
    ) -> Result<()> {
        let _alone = self.exclusive(repository);
        match self.media_type(repository, digest)? {
            Some(_) => self.write(&self.tag_path(repository, tag), digest.as_str()),
            None => Err(Error::ManifestUnknown {
                repository: repository.clone(),
                reference: Reference::Digest(digest.clone()),
            }),
        }
    }

    /// The digest of a manifest that the repository has.
    pub(crate) fn resolve(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Digest>> {
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => match self.tagged(repository, tag)? {
                Some(digest) => digest,
                None => return Ok(None),
            },
        };
        Ok(self.media_type(repository, &digest)?.map(|_| digest))
    }

    /// Removes a tag; says whether there was one.
    pub(crate) fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool> {
        let _alone = self.exclusive(repository);
        disk::remove(&self.tag_path(repository, tag))
    }

    /// Up to `limit` tags in order, from the first one after `after`; `None` if there is no such repository.
    pub(crate) fn tags(
        &self,
        repository: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<Tag>>> {
        if !self.is_repository(repository)? {
            return Ok(None);
        }
        let mut first = BTreeSet::new();
        for tag in disk::entries(&self.part(repository, TAGS))? {
            if after.is_none_or(|after| tag.as_str() > after) {
                first.insert(tag);
            }
            if first.len() > limit {
                first.pop_last();
            }
        }
        Ok(Some(
            first
                .into_iter()
                .filter_map(|tag| tag.parse().ok())
                .collect(),
        ))
    }

    /// The names of all repositories, in no order.
    pub(crate) fn names(&self) -> Result<Vec<RepositoryName>> {
        let mut names = Vec::new();
        let mut unread = vec![String::new()];
        while let Some(directory) = unread.pop() {
            for entry in disk::entries(&self.root.join(&directory))? {
                if entry.starts_with('_') {
                    continue;
                }
                let name = if directory.is_empty() {
                    entry
                } else {
                    format!("{directory}/{entry}")
                };
                unread.push(name.clone());
                match name.parse() {
                    Ok(name) if self.is_repository(&name)? => names.push(name),
                    _ => {}
                }
            }
        }
        Ok(names)
    }

    /// The manifests that a repository has.
    pub(crate) fn manifests(&self, repository: &RepositoryName) -> Result<Vec<Digest>> {
        self.entries(repository, MANIFESTS)
    }

    /// The blobs that a repository has.
    pub(crate) fn blob_entries(&self, repository: &RepositoryName) -> Result<Vec<Digest>> {
        self.entries(repository, BLOBS)
    }

    /// Removes what is left of a repository that has nothing; says whether it is gone.
    pub(crate) fn prune(&self, repository: &RepositoryName) -> Result<bool> {
        let _alone = self.exclusive(repository);
        for part in [TAGS, MANIFESTS, BLOBS] {
            if !self
                .blobs
                .disk()
                .prune_directory(&self.part(repository, part))?
            {
                return Ok(false);
            }
        }
        let mut directory = self.root.join(repository.as_str());
        while directory != self.root && self.blobs.disk().prune_directory(&directory)? {
            directory.pop();
        }
        Ok(true)
    }

    /// The file that says that a repository has a blob.
    pub(crate) fn blob_entry(&self, repository: &RepositoryName, digest: &Digest) -> PathBuf {
        self.entry(repository, BLOBS, digest)
    }

    /// The file that says that a repository has a manifest.
    pub(super) fn manifest_entry(&self, repository: &RepositoryName, digest: &Digest) -> PathBuf {
        self.entry(repository, MANIFESTS, digest)
    }

    /// The digest that a tag points at, whether or not its manifest is there.
    pub(crate) fn tagged(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Digest>> {
        let path = self.tag_path(repository, tag);
        let Some(content) = disk::read(&path)? else {
            return Ok(None);
        };
        match std::str::from_utf8(&content).map(str::parse) {
            Ok(Ok(digest)) => Ok(Some(digest)),
            _ => Err(unreadable(&path)),
        }
    }

    /// Says that the repository has a blob, which is durable already.
    fn enter(&self, repository: &RepositoryName, digest: &Digest) -> Result<()> {
        let lock = self.lock(repository).read();
        let _shared: RwLockReadGuard<'_, ()> = lock.unwrap_or_else(PoisonError::into_inner);
        let entry = self.entry(repository, BLOBS, digest);
        self.blobs
            .disk()
            .ensure_directory(&self.part(repository, BLOBS))?;
        disk::mark(&entry)
    }

    /// Writes a small file of a repository.
    pub(super) fn write(&self, path: &Path, content: &str) -> Result<()> {
        if let Some(directory) = path.parent() {
            self.blobs.disk().ensure_directory(directory)?;
        }
        self.blobs.disk().write(path, content.as_bytes())
    }

    fn is_repository(&self, repository: &RepositoryName) -> Result<bool> {
        for part in [BLOBS, MANIFESTS, TAGS] {
            if disk::metadata(&self.part(repository, part))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn entries(&self, repository: &RepositoryName, part: &str) -> Result<Vec<Digest>> {
        let names = disk::entries(&self.part(repository, part))?;
        Ok(names
            .into_iter()
            .filter_map(|name| format!("sha256:{name}").parse().ok())
            .collect())
    }

    fn part(&self, repository: &RepositoryName, part: &str) -> PathBuf {
        self.root.join(repository.as_str()).join(part)
    }

    fn entry(&self, repository: &RepositoryName, part: &str, digest: &Digest) -> PathBuf {
        self.part(repository, part).join(digest.hex())
    }

    pub(super) fn tag_path(&self, repository: &RepositoryName, tag: &Tag) -> PathBuf {
        self.part(repository, TAGS).join(tag.as_str())
    }

    /// Keeps everybody else from changing a repository.
    pub(super) fn exclusive(&self, repository: &RepositoryName) -> RwLockWriteGuard<'_, ()> {
        let lock = self.lock(repository).write();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, repository: &RepositoryName) -> &RwLock<()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(repository);
        &self.locks[hash as usize % LOCKS]
    }
}

pub(super) fn unreadable(path: &Path) -> Error {
    Error::io("understand", path, std::io::ErrorKind::InvalidData.into())
}
