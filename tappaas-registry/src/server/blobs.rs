use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use futures::TryStreamExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tappaas_core::Digest;

use super::{
    failure::Failure,
    range::{Wanted, parse_range},
    router::{CONTENT_DIGEST, Parts, headers},
};
use crate::{Error, RepositoryName, Store};

/// `GET` and `HEAD` of a blob.
///
/// What is sent is not hashed again: the client has the digest and must, and could not be told of a fault otherwise than
/// by a connection that breaks.
pub(super) async fn read(
    store: &Store,
    repository: &RepositoryName,
    digest: &Digest,
    parts: &Parts,
) -> Result<Response, Failure> {
    let unknown = || Error::BlobUnknown {
        digest: digest.clone(),
        repository: repository.clone(),
    };
    if parts.method == Method::HEAD {
        let size = store
            .blob_size(repository, digest)
            .await?
            .ok_or_else(unknown)?;
        return Ok((StatusCode::OK, describe(digest, size), Body::empty()).into_response());
    }
    let (file, size) = store
        .open_blob(repository, digest)
        .await?
        .ok_or_else(unknown)?;
    let wanted = match parts.headers.get(header::RANGE).map(|range| range.to_str()) {
        // No validators are sent, so that none can match.
        Some(Ok(range)) if !parts.headers.contains_key(header::IF_RANGE) => {
            parse_range(range, size)
        }
        _ => Wanted::All,
    };
    let (status, range) = match wanted {
        Wanted::All => (StatusCode::OK, 0..size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Unsatisfiable => return Err(unsatisfiable(size)),
    };
    let mut headers = describe(digest, range.end - range.start);
    if status == StatusCode::PARTIAL_CONTENT {
        let part = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        headers.extend(super::router::headers([(
            header::CONTENT_RANGE,
            part.as_str(),
        )]));
    }
    let chunks = Store::part(file, digest.clone(), range);
    let chunks = chunks.inspect_err(
        |error| tracing::error!(error = %tappaas_core::Chain(error), "blob broke off"),
    );
    Ok((status, headers, Body::from_stream(chunks)).into_response())
}

/// `DELETE` of a blob.
pub(super) async fn delete(
    store: &Store,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Response, Failure> {
    if store.delete_blob(repository, digest).await? {
        Ok(StatusCode::ACCEPTED.into_response())
    } else {
        Err(Error::BlobUnknown {
            digest: digest.clone(),
            repository: repository.clone(),
        }
        .into())
    }
}

fn describe(digest: &Digest, length: u64) -> HeaderMap {
    let mut headers = headers([
        (header::ACCEPT_RANGES, "bytes"),
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_DIGEST, digest.as_str()),
    ]);
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers
}

fn unsatisfiable(size: u64) -> Failure {
    let failure = Failure::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "SIZE_INVALID",
        format!("range is outside the {size} bytes of the blob"),
    );
    match HeaderValue::from_str(&format!("bytes */{size}")) {
        Ok(range) => failure.with(header::CONTENT_RANGE, range),
        Err(_) => failure,
    }
}
