//! Extractors that refuse with a problem.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::{
    State,
    failure::{Answer, Failure},
    types::{Kind, Problem},
};

/// How long a client may take to send a small body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Names out of the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<State> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Answer<Self> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Self(path)),
            Err(rejection) => Err(Failure::invalid(rejection.body_text())),
        }
    }
}

/// Settings out of the query.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<State> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Answer<Self> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Failure::invalid(rejection.body_text())),
        }
    }
}

/// A JSON body of bounded size.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<State> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &State) -> Answer<Self> {
        if !is_json(request.headers()) {
            let failure =
                Failure::invalid("the body must be JSON: send `Content-Type: application/json`");
            return Err(failure.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let bytes = read(request, state.limits.body).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Failure::invalid(format!("the body is not what is expected: {error}")))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE);
    let media = media
        .and_then(|media| media.to_str().ok())
        .unwrap_or_default();
    media
        .split(';')
        .next()
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

async fn read(request: Request, limit: usize) -> Answer<Bytes> {
    let body = Limited::new(request.into_body(), limit).collect();
    let late = |_| {
        Failure::invalid("the body did not come in time").with_status(StatusCode::REQUEST_TIMEOUT)
    };
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
        if error.is::<LengthLimitError>() {
            too_large(limit as u64)
        } else {
            Failure::invalid(format!("the body broke off: {error}"))
        }
    };
    let body = tokio::time::timeout(BODY_TIMEOUT, body)
        .await
        .map_err(late)?;
    Ok(body.map_err(broken)?.to_bytes())
}

/// The answer to a body of more than `limit` bytes.
pub(crate) fn too_large(limit: u64) -> Failure {
    let detail = format!("the body is larger than {limit} bytes");
    Failure(Problem::new(Kind::Exhausted, detail).with_status(StatusCode::PAYLOAD_TOO_LARGE))
}
