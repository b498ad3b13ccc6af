use http::StatusCode;
use oci_distribution::errors::{DigestError, OciDistributionError, OciErrorCode};
use tappaas_core::{Error, ErrorKind};

/// What a caller should do about an answer that is not a success.
pub(super) fn kind_of_status(status: StatusCode) -> ErrorKind {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Denied,
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => ErrorKind::Unsupported,
        StatusCode::CONFLICT => ErrorKind::Conflict,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::INSUFFICIENT_STORAGE => ErrorKind::Exhausted,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => ErrorKind::Unavailable,
        status if status.is_server_error() => ErrorKind::Unavailable,
        _ => ErrorKind::Invalid,
    }
}

/// Says what was attempted, and keeps the cause. An error of our own that passed through the library comes back as it was.
pub(super) fn failed(doing: &str, host: &str, error: OciDistributionError) -> Error {
    let error = match error {
        OciDistributionError::IoError(error) => match error.downcast::<Error>() {
            Ok(own) => return own,
            Err(error) => OciDistributionError::IoError(error),
        },
        error => error,
    };
    Error::new(kind_of(&error), format!("cannot {doing} registry `{host}`")).with_source(error)
}

fn kind_of(error: &OciDistributionError) -> ErrorKind {
    match error {
        OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::UnauthorizedError { .. } => ErrorKind::Denied,
        OciDistributionError::RegistryError { envelope, .. } => envelope
            .errors
            .first()
            .map_or(ErrorKind::Invalid, |error| kind_of_code(&error.code)),
        OciDistributionError::ServerError { code, .. } => {
            StatusCode::from_u16(*code).map_or(ErrorKind::Unavailable, kind_of_status)
        }
        // What came is not what was asked for: asking again would bring the same.
        OciDistributionError::IoError(error)
            if error
                .get_ref()
                .is_some_and(|error| error.is::<DigestError>()) =>
        {
            ErrorKind::Internal
        }
        OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Internal,
    }
}

fn kind_of_code(code: &OciErrorCode) -> ErrorKind {
    match code {
        OciErrorCode::BlobUnknown
        | OciErrorCode::ManifestUnknown
        | OciErrorCode::NameUnknown
        | OciErrorCode::NotFound => ErrorKind::NotFound,
        OciErrorCode::Denied | OciErrorCode::Unauthorized => ErrorKind::Denied,
        OciErrorCode::Toomanyrequests => ErrorKind::Unavailable,
        OciErrorCode::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Invalid,
    }
}
