use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, Request, StatusCode, header};
use serde_json::json;
use tappaas_api::Limits;
use tappaas_core::{
    Digest, ErrorKind,
    backend::{Content, Registry as _},
};

use crate::world::{ENVIRONMENT, World, application, key};

fn source(content: &[u8]) -> String {
    format!("{}/sources/{}", application(), Digest::of(content))
}

fn pieces(pieces: &[&'static [u8]]) -> Body {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece)))
        .collect();
    Body::from_stream(stream::iter(pieces))
}

/// Says whether the registry keeps something.
async fn kept(world: &World, content: &[u8]) -> bool {
    let repository = world.state.platform.settings().repository(&key());
    match world
        .registry
        .pull(&repository, &Content::Blob(Digest::of(content)))
        .await
    {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_larger_than_the_limit_is_refused_and_leaves_nothing() {
    let world = World::with(Limits {
        source: 8,
        ..Limits::default()
    })
    .await;
    let fits = world
        .upload(&source(b"12345678"), pieces(&[b"1234", b"5678"]))
        .await;
    assert_eq!(fits.status, StatusCode::NO_CONTENT);
    assert!(kept(&world, b"12345678").await);

    for body in [Body::from(&b"123456789"[..]), pieces(&[b"1234", b"56789"])] {
        let answer = world.upload(&source(b"123456789"), body).await;
        assert_eq!(
            (answer.status, answer.kind().as_str()),
            (StatusCode::PAYLOAD_TOO_LARGE, "exhausted")
        );
    }
    assert!(!kept(&world, b"123456789").await);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_says_it_is_too_large_is_not_even_read() {
    let world = World::with(Limits {
        source: 8,
        ..Limits::default()
    })
    .await;
    let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let request = Request::builder()
        .method(Method::PUT)
        .uri(source(b"x"))
        .header(header::CONTENT_LENGTH, "9")
        .body(body);
    let answer = world.request(request.unwrap()).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stands_still_is_given_up() {
    let limits = Limits {
        idle: Duration::from_secs(7),
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"12"))]);
    let body = Body::from_stream(first.chain(stream::pending()));
    let began = tokio::time::Instant::now();
    let answer = world.upload(&source(b"1234"), body).await;
    assert_eq!(
        (answer.status, answer.kind().as_str()),
        (StatusCode::BAD_REQUEST, "invalid")
    );
    assert_eq!(began.elapsed().as_secs(), 7);
    assert!(!kept(&world, b"1234").await);
}

#[tokio::test(start_paused = true)]
async fn a_body_larger_than_the_limit_is_refused() {
    let world = World::with(Limits {
        body: 64,
        ..Limits::default()
    })
    .await;
    let body = json!({ "set": { "A": "x".repeat(64) } });
    let answer = world
        .send(Method::PATCH, &format!("{}/config", application()), &body)
        .await;
    assert_eq!(
        (answer.status, answer.kind().as_str()),
        (StatusCode::PAYLOAD_TOO_LARGE, "exhausted")
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_given_up() {
    let world = World::new().await;
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(format!("{ENVIRONMENT}/applications/shop/config"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_stream(stream::pending::<
            Result<Bytes, Infallible>,
        >()));
    let answer = world.request(request.unwrap()).await;
    assert_eq!(
        (answer.status, answer.kind().as_str()),
        (StatusCode::REQUEST_TIMEOUT, "invalid")
    );
}
