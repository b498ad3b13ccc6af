use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;
use tappaas_core::Chain;

use crate::Error;

/// A refused request: a status, and the body that the specification wants.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            headers: Vec::new(),
        }
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn into_not_found(mut self) -> Self {
        self.status = StatusCode::NOT_FOUND;
        self
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", message)
    }

    pub(super) fn digest_invalid(error: &tappaas_core::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.message())
    }

    pub(super) fn manifest_invalid(error: &tappaas_core::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", error.message())
    }

    pub(super) fn upload_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    pub(super) fn upload_unknown() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "BLOB_UPLOAD_UNKNOWN",
            "upload is unknown: it ended, was cancelled, idled too long, or the registry restarted; begin a new one",
        )
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, code) = match &error {
            Error::BlobUnknown { .. } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Error::ManifestUnknown { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Error::RepositoryUnknown(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Error::DigestMismatch { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Error::ManifestBlobUnknown { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            Error::ManifestInvalid(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Error::RepositoryInvalid(_) | Error::RepositoryForeign(_) => {
                (StatusCode::BAD_REQUEST, "NAME_INVALID")
            }
            Error::Lost => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            Error::InUse { .. } => (StatusCode::CONFLICT, "DENIED"),
            Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            Error::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "DENIED"),
            Error::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "TOOMANYREQUESTS"),
            Error::Damaged(_) | Error::Format { .. } | Error::Io { .. } | Error::Locked(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "UNSUPPORTED")
            }
        };
        if status.is_server_error() {
            tracing::error!(error = %Chain(&error), "registry request failed");
        }
        // Paths of this machine are nobody's business.
        let message = match &error {
            Error::Format { .. } | Error::Io { .. } | Error::Locked(_) => {
                "registry failed; its log says why".to_owned()
            }
            Error::Full { .. } => "registry has no space left".to_owned(),
            _ => error.to_string(),
        };
        Self::new(status, code, message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({"errors": [{"code": self.code, "message": self.message}]});
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        headers.extend(self.headers);
        response
    }
}
