use axum::{body::Body, extract::State as FromState};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, StatusCode, header};
use tappaas_core::{Error, ErrorKind, Result};

use crate::{
    State,
    extract::{Path, too_large},
    failure::{Answer, Failure},
    state::Limits,
    types::{ApplicationPath, SourcePath},
};

/// Uploads a source archive for an application, which need not exist yet. The bytes are verified against the digest.
#[utoipa::path(
    put,
    path = "/sources/{digest}",
    tag = "applications",
    params(ApplicationPath, SourcePath),
    request_body(content = inline(Vec<u8>), content_type = "application/octet-stream"),
    responses((status = 204, description = "The source is kept."))
)]
pub(super) async fn upload_source(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
    Path(SourcePath { digest }): Path<SourcePath>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let (key, limit) = (path.key(), state.limits.source);
    let bytes = bounded(body, state.limits).boxed();
    if let Err(error) = state.platform.require_environment(&key.scope()) {
        // A client that cannot send on would take that for the failure, and not read this answer.
        let _ = bytes.for_each(async |_| ()).await;
        return Err(error.into());
    }
    let length = headers.get(header::CONTENT_LENGTH);
    let length: Option<u64> = length.and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    match state.platform.upload(&key, &digest, bytes).await {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(error) if error.kind() == ErrorKind::Exhausted => {
            Err(Failure::from(error).with_status(StatusCode::PAYLOAD_TOO_LARGE))
        }
        Err(error) => Err(error.into()),
    }
}

/// The bytes of a body, up to a limit and without standing still for long.
fn bounded(body: Body, limits: Limits) -> impl Stream<Item = Result<Bytes>> + Send {
    let bytes = body
        .into_data_stream()
        .map_err(|error| Error::invalid("the upload broke off").with_source(error));
    let state = (Box::pin(bytes), 0_u64);
    futures::stream::try_unfold(state, move |(mut bytes, before)| async move {
        let next = tokio::time::timeout(limits.idle, bytes.try_next()).await;
        let next = next.map_err(|_| Error::invalid("the upload stood still for too long"))?;
        let Some(chunk) = next? else { return Ok(None) };
        let total = before + chunk.len() as u64;
        if total > limits.source {
            let message = format!("the source is larger than {} bytes", limits.source);
            return Err(Error::exhausted(message));
        }
        Ok(Some((chunk, (bytes, total))))
    })
}
