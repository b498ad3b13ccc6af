use tappaas_core::{Digest, backend::Tag};

use super::repositories::Repositories;
use crate::{Error, RepositoryName, Result};

/// Something that should not be in a registry.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// A blob's content is not what its address says.
    Blob(Digest),
    /// A manifest cannot be read, or names what its repository does not have.
    Manifest {
        /// The repository that has the manifest.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
        /// What is wrong with it.
        why: String,
    },
    /// A tag points at nothing.
    Tag {
        /// The repository that has the tag.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
    },
}

/// Reads everything and reports what is wrong. What changes meanwhile may be reported wrongly.
pub(crate) fn verify(repositories: &Repositories) -> Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for shard in 0..=u8::MAX {
        for digest in repositories.blobs().shard(shard)? {
            match repositories.blobs().verify(&digest) {
                Err(Error::Damaged(digest)) => faults.push(Fault::Blob(digest)),
                other => other?,
            }
        }
    }
    for repository in repositories.names()? {
        for digest in repositories.manifests(&repository)? {
            faults.extend(manifest_fault(repositories, &repository, digest)?);
        }
        for tag in repositories
            .tags(&repository, None, usize::MAX)?
            .unwrap_or_default()
        {
            let resolved = repositories.tagged(&repository, &tag)?;
            let known = repositories.manifests(&repository)?;
            if !resolved.is_some_and(|digest| known.contains(&digest)) {
                let repository = repository.clone();
                faults.push(Fault::Tag { repository, tag });
            }
        }
    }
    Ok(faults)
}

fn manifest_fault(
    repositories: &Repositories,
    repository: &RepositoryName,
    digest: Digest,
) -> Result<Option<Fault>> {
    let checked = repositories
        .parsed(repository, &digest)
        .and_then(|parsed| match parsed {
            Some(parsed) => repositories.require_all(repository, &parsed),
            None => Ok(()),
        });
    match checked {
        Ok(()) => Ok(None),
        Err(error @ (Error::Io { .. } | Error::Full { .. } | Error::Stopped)) => Err(error),
        Err(error) => Ok(Some(Fault::Manifest {
            repository: repository.clone(),
            digest,
            why: error.to_string(),
        })),
    }
}
