//! Endless answers: newline-delimited JSON.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt as _};
use http::header;
use serde::Serialize;

/// The media type of newline-delimited JSON.
pub(crate) const MEDIA_TYPE: &str = "application/x-ndjson";

/// Answers with one line for each event.
pub(crate) fn lines<T: Serialize>(events: impl Stream<Item = T> + Send + 'static) -> Response {
    let lines = events.map(|event| {
        let mut line = serde_json::to_vec(&event)?;
        line.push(b'\n');
        Ok::<_, serde_json::Error>(line)
    });
    let media = [(header::CONTENT_TYPE, MEDIA_TYPE)];
    (media, Body::from_stream(lines)).into_response()
}
