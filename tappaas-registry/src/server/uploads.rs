use std::{ops::Range, sync::atomic::Ordering};

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use tappaas_core::Digest;

use super::{
    body::Incoming,
    endpoint::parse_digest,
    failure::Failure,
    range::parse_content_range,
    router::{Parts, headers},
    sessions::{Session, Sessions},
};
use crate::{RepositoryName, Writer};

/// `POST …/blobs/uploads/`: mounts a blob, takes a whole one, or begins an upload.
pub(super) async fn begin(
    sessions: &Sessions,
    repository: RepositoryName,
    parts: &Parts,
    mut body: Incoming,
) -> Result<Response, Failure> {
    let store = sessions.store();
    if let (Some(mount), Some(from)) = (parts.query("mount"), parts.query("from")) {
        let (digest, from) = (parse_digest(mount)?, from.parse()?);
        if store.mount(&repository, &digest, &from).await? {
            return Ok(created(&repository, &digest));
        }
    } else if let Some(digest) = parts.query("digest") {
        let digest = parse_digest(digest)?;
        let mut writer = store.writer();
        if let Err(failure) = receive(&mut writer, &mut body, None, |_| ()).await {
            // What was refused is gone before the answer says so: a batch may still be on its way to the disk.
            writer.discard().await;
            return Err(failure);
        }
        store.commit(&repository, writer, Some(&digest)).await?;
        return Ok(created(&repository, &digest));
    }
    refuse_algorithm(parts)?;
    let session = sessions.begin(repository)?;
    Ok((StatusCode::ACCEPTED, progress(&session)).into_response())
}

/// `GET` of an upload: how far it is.
pub(super) fn status(session: &Session) -> Response {
    (StatusCode::NO_CONTENT, progress(session)).into_response()
}

/// `DELETE` of an upload.
pub(super) async fn cancel(sessions: &Sessions, session: &Session) -> Response {
    sessions.end(session).await;
    StatusCode::NO_CONTENT.into_response()
}

/// `PATCH` of an upload: appends.
pub(super) async fn append(
    sessions: &Sessions,
    session: &Session,
    parts: &Parts,
    mut body: Incoming,
) -> Result<Response, Failure> {
    extend(sessions, session, parts, &mut body).await?;
    Ok((StatusCode::ACCEPTED, progress(session)).into_response())
}

/// `PUT` of an upload: appends what comes with it, and ends it.
pub(super) async fn finish(
    sessions: &Sessions,
    session: &Session,
    parts: &Parts,
    mut body: Incoming,
) -> Result<Response, Failure> {
    let digest = parts.query("digest").ok_or_else(|| {
        Failure::new(
            StatusCode::BAD_REQUEST,
            "DIGEST_INVALID",
            "the closing request needs a `digest` parameter",
        )
    })?;
    let digest = parse_digest(digest)?;
    extend(sessions, session, parts, &mut body).await?;
    let writer = session
        .writer
        .lock()
        .await
        .take()
        .ok_or_else(Failure::upload_unknown)?;
    let committed = sessions
        .store()
        .commit(&session.repository, writer, Some(&digest))
        .await;
    sessions.end(session).await;
    committed?;
    Ok(created(&session.repository, &digest))
}

/// Appends a body where the upload stands. One request at a time: a further one waits for a stuck one to be given up.
async fn extend(
    sessions: &Sessions,
    session: &Session,
    parts: &Parts,
    body: &mut Incoming,
) -> Result<(), Failure> {
    let pause = sessions.store().limits().body_pause();
    let slot = tokio::time::timeout(pause, session.writer.lock()).await;
    let mut slot = slot.map_err(|_| busy())?;
    let writer = slot.as_mut().ok_or_else(Failure::upload_unknown)?;
    let range = chunk_range(&parts.headers)?;
    if range
        .as_ref()
        .is_some_and(|range| range.start != writer.len())
    {
        body.drain().await;
        return Err(out_of_order(session));
    }
    let expected = range.map(|range| range.end - range.start);
    let received = receive(writer, body, expected, |len| {
        session.received.store(len, Ordering::Release);
    })
    .await;
    sessions.used(session);
    received
}

/// Streams a body into a writer, telling how far it is.
async fn receive(
    writer: &mut Writer,
    body: &mut Incoming,
    expected: Option<u64>,
    progress: impl Fn(u64),
) -> Result<(), Failure> {
    let start = writer.len();
    while let Some(chunk) = body.chunk().await? {
        let len = writer.len() - start + chunk.len() as u64;
        if expected.is_some_and(|expected| len > expected) {
            body.drain().await;
            return Err(size_invalid());
        }
        if let Err(error) = writer.write(chunk).await {
            body.drain().await;
            return Err(error.into());
        }
        progress(writer.len());
    }
    match expected {
        Some(expected) if writer.len() - start != expected => Err(size_invalid()),
        _ => Ok(()),
    }
}

fn chunk_range(headers: &HeaderMap) -> Result<Option<Range<u64>>, Failure> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let range = value.to_str().ok().and_then(parse_content_range);
    range
        .map(Some)
        .ok_or_else(|| Failure::upload_invalid("`Content-Range` is not `first-last`"))
}

/// The announced digest is always SHA-256; a client that wants another one is told before it sends anything.
fn refuse_algorithm(parts: &Parts) -> Result<(), Failure> {
    match parts.query("digest-algorithm") {
        None | Some("sha256") => Ok(()),
        Some(_) => Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "DIGEST_INVALID",
            "this registry knows only sha256",
        )),
    }
}

fn created(repository: &RepositoryName, digest: &Digest) -> Response {
    let location = format!("/v2/{repository}/blobs/{digest}");
    let headers = headers([
        (header::LOCATION, location.as_str()),
        (super::router::CONTENT_DIGEST, digest.as_str()),
    ]);
    (StatusCode::CREATED, headers).into_response()
}

fn progress(session: &Session) -> HeaderMap {
    headers([
        (header::LOCATION, session.location().as_str()),
        (header::RANGE, session.range().as_str()),
        (super::router::UPLOAD_ID, session.id.as_str()),
    ])
}

fn out_of_order(session: &Session) -> Failure {
    let mut failure = Failure::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "BLOB_UPLOAD_INVALID",
        "chunk does not begin where the upload stands; `Range` says where that is",
    );
    for (name, value) in progress(session) {
        if let Some(name) = name {
            failure = failure.with(name, value);
        }
    }
    failure
}

fn busy() -> Failure {
    Failure::new(
        StatusCode::TOO_MANY_REQUESTS,
        "TOOMANYREQUESTS",
        "another request is sending content to this upload",
    )
}

fn size_invalid() -> Failure {
    Failure::new(
        StatusCode::BAD_REQUEST,
        "SIZE_INVALID",
        "body has not the length that `Content-Range` says",
    )
}
