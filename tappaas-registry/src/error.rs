use std::{io, path::PathBuf};

use tappaas_core::{Digest, ErrorKind, backend::Reference};

use crate::RepositoryName;

/// The result of everything in this crate that is not behind a core trait.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the embedded registry refuses or fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The blob is not in that repository (it may be in another one, which is nobody's business).
    #[error("blob {digest} is not in repository `{repository}`")]
    BlobUnknown {
        /// The blob asked for.
        digest: Digest,
        /// The repository it was asked of.
        repository: RepositoryName,
    },
    /// What the disk returned is not what was once written.
    #[error("content of {0} is damaged on disk; push it again")]
    Damaged(Digest),
    /// Uploaded content is not what its sender said.
    #[error("content hashes to {actual}, but {expected} was announced")]
    DigestMismatch {
        /// What the sender announced.
        expected: Digest,
        /// What arrived.
        actual: Digest,
    },
    /// The directory's format is not one this version reads.
    #[error(
        "{path} holds a registry of format `{found}`; this version reads only format `{known}`"
    )]
    Format {
        /// The registry's directory.
        path: PathBuf,
        /// What its format file says.
        found: String,
        /// What this version understands.
        known: &'static str,
    },
    /// No space or quota is left.
    #[error("no space is left for the registry in {path}; free some, or collect garbage")]
    Full {
        /// The registry's directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something would be left pointing at nothing.
    #[error("{digest} is still named by manifest {by}; delete that first")]
    InUse {
        /// What was to be deleted.
        digest: Digest,
        /// A manifest that names it.
        by: Digest,
    },
    /// Reading or writing failed.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process owns the directory.
    #[error("registry in {0} is in use by another process; stop that one first")]
    Locked(PathBuf),
    /// An earlier failure took part of the content.
    #[error(
        "part of the content was lost when an earlier write failed; send it again from the start"
    )]
    Lost,
    /// A manifest names something its repository does not have.
    #[error("manifest names {digest}, which is not in repository `{repository}`; push that first")]
    ManifestBlobUnknown {
        /// What is missing.
        digest: Digest,
        /// The repository the manifest was meant for.
        repository: RepositoryName,
    },
    /// A manifest breaks a rule of its format.
    #[error("manifest is invalid: {0}")]
    ManifestInvalid(String),
    /// There is no such manifest or tag.
    #[error("repository `{repository}` has no manifest `{reference}`")]
    ManifestUnknown {
        /// The repository asked.
        repository: RepositoryName,
        /// The tag or digest asked for.
        reference: Reference,
    },
    /// The repository's name has a host, and so is another registry's.
    #[error(
        "repository `{0}` belongs to another registry; the embedded one has only names without a host"
    )]
    RepositoryForeign(String),
    /// A repository's name does not follow the distribution specification.
    #[error(
        "`{0}` is not a repository name: expected at most 255 lowercase letters and digits, in between `.`, `_`, \
         `__`, `-` or `/`"
    )]
    RepositoryInvalid(String),
    /// There is no such repository.
    #[error("repository `{0}` is unknown")]
    RepositoryUnknown(RepositoryName),
    /// The process is shutting down.
    #[error("registry is shutting down")]
    Stopped,
    /// Content is larger than the registry takes.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What kind of content.
        what: &'static str,
        /// The configured limit.
        limit: u64,
    },
}

impl Error {
    /// Wraps what the system said; a full disk becomes [`Error::Full`].
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path, source }
            }
            _ => Self::Io {
                doing,
                path,
                source,
            },
        }
    }
}

impl From<Error> for tappaas_core::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::BlobUnknown { .. }
            | Error::ManifestUnknown { .. }
            | Error::RepositoryUnknown(_) => ErrorKind::NotFound,
            Error::Damaged(_) | Error::Io { .. } => ErrorKind::Internal,
            Error::DigestMismatch { .. }
            | Error::ManifestBlobUnknown { .. }
            | Error::ManifestInvalid(_)
            | Error::RepositoryInvalid(_) => ErrorKind::Invalid,
            Error::Format { .. } | Error::RepositoryForeign(_) => ErrorKind::Unsupported,
            Error::Full { .. } | Error::TooLarge { .. } => ErrorKind::Exhausted,
            Error::InUse { .. } | Error::Locked(_) => ErrorKind::Conflict,
            Error::Lost | Error::Stopped => ErrorKind::Unavailable,
        };
        let wrapped = Self::new(kind, error.to_string());
        match error {
            Error::Full { source, .. } | Error::Io { source, .. } => wrapped.with_source(source),
            _ => wrapped,
        }
    }
}
