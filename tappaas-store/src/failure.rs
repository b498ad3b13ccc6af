use std::{any::Any, io, panic::AssertUnwindSafe, sync::Arc};

use tappaas_core::{Error, ErrorKind};

/// Why the file could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the database failed")]
    Database(#[source] Arc<redb::Error>),
    #[error("no space is left on the store's disk: free some, and the store goes on by itself")]
    Full(#[source] Arc<redb::Error>),
    #[error("{0}")]
    Damaged(String),
    #[error("the database gave up, which points to damaged data: {0}")]
    Panicked(String),
    #[error("the data has format {found}, and this version knows {known}: use a newer version")]
    Newer { found: u64, known: u64 },
    #[error("the store is closed")]
    Closed,
    #[error("the store stopped after a failure, and opens again by itself")]
    Stopped(#[source] Arc<Self>),
}

impl Failure {
    /// A row that is not as it was written. Names it, so that somebody can mend or remove it.
    pub(crate) fn damaged_row(table: &str, key: &[u8], problem: &str) -> Self {
        let key = String::from_utf8_lossy(key).replace('\0', "/");
        let key = key.escape_debug();
        Self::Damaged(format!(
            "row `{key}` of table `{table}` is damaged: {problem}"
        ))
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Database(error) => match &**error {
                redb::Error::Corrupted(_) | redb::Error::LockPoisoned(_) => ErrorKind::Internal,
                redb::Error::UpgradeRequired(_) => ErrorKind::Unsupported,
                redb::Error::Io(error) if is_content(error.kind()) => ErrorKind::Internal,
                _ => ErrorKind::Unavailable,
            },
            Self::Damaged(_) | Self::Panicked(_) => ErrorKind::Internal,
            Self::Newer { .. } => ErrorKind::Unsupported,
            Self::Full(_) | Self::Closed | Self::Stopped(_) => ErrorKind::Unavailable,
        }
    }

    /// The failure as the traits show it, with what was to be done.
    pub(crate) fn into_error(self, doing: impl Into<String>) -> Error {
        Error::new(self.kind(), doing).with_source(self)
    }
}

macro_rules! from_database {
    ($($error:ident)*) => {
        $(impl From<redb::$error> for Failure {
            fn from(error: redb::$error) -> Self {
                match error.into() {
                    redb::Error::Io(error) if is_full(error.kind()) => {
                        Self::Full(Arc::new(redb::Error::Io(error)))
                    }
                    error => Self::Database(Arc::new(error)),
                }
            }
        })*
    };
}

from_database!(CommitError CompactionError DatabaseError StorageError TableError TransactionError);

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        redb::StorageError::from(error).into()
    }
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Says whether an error is about what was read, not about reading.
fn is_content(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// Runs code of the database, which panics on some damaged files.
pub(crate) fn contained<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // What the closure leaves half done is the database's, and that is closed after a panic.
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|&text| text.to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Failure::Panicked(text.unwrap_or_else(|| "no reason given".to_owned()))
}
