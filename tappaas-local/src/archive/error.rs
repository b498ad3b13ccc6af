use std::{io, path::PathBuf};

use tappaas_core::ErrorKind;

use super::text;

/// Why an archive could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}", text::path(path))]
    File {
        /// What was attempted: `read`, `create`, …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The archive itself could not be read: truncated, not gzip, or its source failed.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The archive itself could not be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The archive is malformed or hostile.
    #[error("the archive is refused: {0}")]
    Refused(String),
    /// The folder cannot be packed as it is.
    #[error("{0}")]
    Source(String),
    /// There is more than the limits allow.
    #[error("{0}")]
    TooLarge(String),
}

impl Error {
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source, .. } | Self::Write(source) => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
                _ => ErrorKind::Internal,
            },
            Self::Read(_) | Self::Refused(_) | Self::Source(_) => ErrorKind::Invalid,
            Self::TooLarge(_) => ErrorKind::Exhausted,
        }
    }
}

impl From<Error> for tappaas_core::Error {
    fn from(error: Error) -> Self {
        let told = Self::new(error.kind(), error.to_string());
        match error {
            Error::File { source, .. } | Error::Read(source) | Error::Write(source) => {
                told.with_source(source)
            }
            Error::Refused(_) | Error::Source(_) | Error::TooLarge(_) => told,
        }
    }
}
