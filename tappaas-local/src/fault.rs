use std::{error::Error as StdError, fmt, io};

use tappaas_core::{Error, ErrorKind};

/// Why a step of setting up or running a sandbox failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The kernel refused it.
    #[error("cannot {what}")]
    Os {
        /// What was tried, fit for "cannot …".
        what: String,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// The container runtime refused it.
    #[error("cannot {what}")]
    Runtime {
        /// What was tried, fit for "cannot …".
        what: &'static str,
        /// Its answer.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The command cannot be executed; nothing is wrong with the machine.
    #[error("{0}")]
    Command(String),
    /// The machine lacks something.
    #[error("{0}")]
    Unsupported(String),
}

pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// A runtime's error, whose messages already contain their sources.
    pub(crate) fn runtime(what: &'static str, source: impl fmt::Display) -> Self {
        Self::Runtime {
            what,
            source: source.to_string().into(),
        }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Os { source, .. } => match source.kind() {
                io::ErrorKind::OutOfMemory
                | io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
                io::ErrorKind::Interrupted
                | io::ErrorKind::TimedOut
                | io::ErrorKind::WouldBlock => ErrorKind::Unavailable,
                _ => ErrorKind::Internal,
            },
            Self::Runtime { .. } => ErrorKind::Internal,
            Self::Command(_) => ErrorKind::Invalid,
            Self::Unsupported(_) => ErrorKind::Unsupported,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let kind = fault.kind();
        let what = match (&fault, kind) {
            (Fault::Os { source, .. }, ErrorKind::Exhausted)
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                format!("{fault}; free some space on its disk")
            }
            _ => fault.to_string(),
        };
        let error = Self::new(kind, what);
        match fault {
            Fault::Os { source, .. } => error.with_source(source),
            Fault::Runtime { source, .. } => error.with_source(source),
            Fault::Command(_) | Fault::Unsupported(_) => error,
        }
    }
}

/// Names what was tried when the kernel refuses it.
pub(crate) trait Context<T> {
    /// `what` completes the sentence "cannot …".
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Fault::Os {
            what: what(),
            source: source.into(),
        })
    }
}
