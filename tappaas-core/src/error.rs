use std::{error::Error as StdError, fmt};

/// The result of every fallible operation at a trait border.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do next.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing to create is there already.
    AlreadyExists,
    /// The precondition no longer holds: read again and plan again.
    Conflict,
    /// The caller may not do this.
    Denied,
    /// A limit is reached: free something or raise the limit.
    Exhausted,
    /// The revision asked for is no longer kept: list again.
    Expired,
    /// A defect of this software or damaged data.
    Internal,
    /// The input is wrong: mend it.
    Invalid,
    /// The thing named is not there.
    NotFound,
    /// A passing failure: the same call may be made again.
    Unavailable,
    /// This backend or machine cannot do it.
    Unsupported,
}

impl ErrorKind {
    /// Says whether the same call may be repeated without reading anything again.
    pub fn retryable(self) -> bool {
        match self {
            Self::Unavailable => true,
            Self::AlreadyExists
            | Self::Conflict
            | Self::Denied
            | Self::Exhausted
            | Self::Expired
            | Self::Internal
            | Self::Invalid
            | Self::NotFound
            | Self::Unsupported => false,
        }
    }

    /// Says whether what was asked for is refused for what it is: asked again, it would be refused again.
    pub fn refused(self) -> bool {
        match self {
            Self::Invalid | Self::Unsupported => true,
            Self::AlreadyExists
            | Self::Conflict
            | Self::Denied
            | Self::Exhausted
            | Self::Expired
            | Self::Internal
            | Self::NotFound
            | Self::Unavailable => false,
        }
    }
}

/// The one error of all backend traits.
///
/// `Display` prints the message alone; [`Chain`] walks the sources.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error. The message is a lowercase fragment: what, where, what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Attaches the cause, which the message must not repeat.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says what the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without its sources.
    pub fn message(&self) -> &str {
        &self.message
    }
}

macro_rules! shorthand {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {
        impl Error {
            $($(#[$doc])* pub fn $name(message: impl Into<String>) -> Self {
                Self::new(ErrorKind::$kind, message)
            })*
        }
    };
}

shorthand! {
    /// Creates an [`ErrorKind::AlreadyExists`].
    already_exists => AlreadyExists;
    /// Creates an [`ErrorKind::Conflict`].
    conflict => Conflict;
    /// Creates an [`ErrorKind::Exhausted`].
    exhausted => Exhausted;
    /// Creates an [`ErrorKind::Expired`].
    expired => Expired;
    /// Creates an [`ErrorKind::Internal`].
    internal => Internal;
    /// Creates an [`ErrorKind::Invalid`].
    invalid => Invalid;
    /// Creates an [`ErrorKind::NotFound`].
    not_found => NotFound;
    /// Creates an [`ErrorKind::Unavailable`].
    unavailable => Unavailable;
    /// Creates an [`ErrorKind::Unsupported`].
    unsupported => Unsupported;
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, Chain(self))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Displays an error and its sources, joined by `: `.
pub struct Chain<'a>(pub &'a (dyn StdError + 'static));

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_prints_each_source_once() {
        let refused = std::io::Error::other("connection refused");
        let error = Error::unavailable("cannot reach the registry").with_source(refused);
        assert_eq!(error.to_string(), "cannot reach the registry");
        assert_eq!(
            Chain(&error).to_string(),
            "cannot reach the registry: connection refused"
        );
    }
}
