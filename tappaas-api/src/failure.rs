use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tappaas_core::{Chain, Error};

use crate::types::{Kind, Problem};

/// What a handler answers.
pub(crate) type Answer<T> = Result<T, Failure>;

/// A problem on its way out.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Problem);

impl Failure {
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self(Problem::new(Kind::Invalid, detail))
    }

    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self(self.0.with_status(status))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let problem = Problem::from(&error);
        if problem.kind == Kind::Internal {
            tracing::error!(error = %Chain(&error), "a request failed");
        }
        Self(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let media = HeaderValue::from_static(Problem::MEDIA_TYPE);
        (status, [(header::CONTENT_TYPE, media)], body).into_response()
    }
}
