use std::{error::Error as StdError, fmt};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tappaas_core::{Error, ErrorKind};
use utoipa::ToSchema;

/// Why a request was not carried out (RFC 9457).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the kind says all.
    #[serde(rename = "type")]
    pub uri: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, where, and what to do.
    pub detail: String,
    /// What to do next.
    pub kind: Kind,
    /// What led to it, the nearest cause first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
}

/// What to do next about a problem.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The thing to create is there already.
    AlreadyExists,
    /// Something changed meanwhile, or is in the way: look again.
    Conflict,
    /// The caller may not do this.
    Denied,
    /// A limit is reached: free something or raise the limit.
    Exhausted,
    /// What was asked for is no longer kept.
    Expired,
    /// A defect of the server or damaged data.
    Internal,
    /// The input is wrong: mend it.
    Invalid,
    /// The thing named is not there.
    NotFound,
    /// A passing failure: try again.
    Unavailable,
    /// This server cannot do it.
    Unsupported,
}

impl Problem {
    /// The media type of problems.
    pub const MEDIA_TYPE: &str = "application/problem+json";

    /// The most causes that are told.
    const CAUSES_MAX: usize = 16;

    /// A problem without causes, with the usual status of its kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let status = kind.status();
        Self {
            uri: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            kind,
            causes: Vec::new(),
        }
    }

    /// The same with another status than is usual for its kind.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.title = status.canonical_reason().unwrap_or_default().to_owned();
        self.status = status.as_u16();
        self
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        Self {
            causes: causes
                .take(Self::CAUSES_MAX)
                .map(ToString::to_string)
                .collect(),
            ..Self::new(error.kind().into(), error.message())
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let error = Self::new(problem.kind.into(), problem.detail);
        let chain = problem.causes.into_iter().rev();
        let cause = chain.fold(None, |source, message| {
            Some(Box::new(Cause { message, source }))
        });
        match cause {
            Some(cause) => error.with_source(cause as Box<dyn StdError + Send + Sync>),
            None => error,
        }
    }
}

impl Kind {
    /// The HTTP status of problems of this kind.
    pub fn status(self) -> StatusCode {
        match self {
            Self::AlreadyExists | Self::Conflict => StatusCode::CONFLICT,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Exhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Expired => StatusCode::GONE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unsupported => StatusCode::NOT_IMPLEMENTED,
        }
    }
}

impl From<ErrorKind> for Kind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::AlreadyExists => Self::AlreadyExists,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Exhausted => Self::Exhausted,
            ErrorKind::Expired => Self::Expired,
            ErrorKind::Invalid => Self::Invalid,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Unsupported => Self::Unsupported,
            // Core may gain kinds; one that the wire does not know is ours to mend.
            _ => Self::Internal,
        }
    }
}

impl From<Kind> for ErrorKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::AlreadyExists => Self::AlreadyExists,
            Kind::Conflict => Self::Conflict,
            Kind::Denied => Self::Denied,
            Kind::Exhausted => Self::Exhausted,
            Kind::Expired => Self::Expired,
            Kind::Internal => Self::Internal,
            Kind::Invalid => Self::Invalid,
            Kind::NotFound => Self::NotFound,
            Kind::Unavailable => Self::Unavailable,
            Kind::Unsupported => Self::Unsupported,
        }
    }
}

/// A cause that came over the wire.
#[derive(Debug)]
struct Cause {
    message: String,
    source: Option<Box<Self>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use tappaas_core::Chain;

    use super::*;

    #[test]
    fn an_error_comes_back_as_it_was() {
        for kind in [
            ErrorKind::AlreadyExists,
            ErrorKind::Conflict,
            ErrorKind::Denied,
            ErrorKind::Exhausted,
            ErrorKind::Expired,
            ErrorKind::Internal,
            ErrorKind::Invalid,
            ErrorKind::NotFound,
            ErrorKind::Unavailable,
            ErrorKind::Unsupported,
        ] {
            let inner = Error::internal("inner").with_source(std::io::Error::other("innermost"));
            let error = Error::new(kind, "outer").with_source(inner);
            let json = serde_json::to_string(&Problem::from(&error)).unwrap();
            let back = Error::from(serde_json::from_str::<Problem>(&json).unwrap());
            assert_eq!(back.kind(), kind);
            assert_eq!(Chain(&back).to_string(), "outer: inner: innermost");
        }
    }
}
