use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::json;
use tappaas_core::{
    Digest,
    backend::{Content, Registry as _, Repository, Tag},
};

use crate::world::{World, application};

#[tokio::test(start_paused = true)]
async fn bytes_that_are_not_what_their_digest_says_are_refused() {
    let world = World::new().await;
    let path = format!("{}/sources/{}", application(), Digest::of("this"));
    let answer = world.upload(&path, Body::from("that")).await;
    assert_eq!(
        (answer.status, answer.kind().as_str()),
        (StatusCode::BAD_REQUEST, "invalid")
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_is_not_taken_for_an_environment_that_is_not_there() {
    let world = World::new().await;
    let path =
        format!("{}/sources/{}", application(), Digest::of("x")).replace("production", "staging");
    let answer = world.upload(&path, Body::from("x")).await;
    assert_eq!(answer.kind(), "not-found");
}

#[tokio::test(start_paused = true)]
async fn an_image_is_deployed_by_the_digest_that_its_tag_meant() {
    let world = World::new().await;
    let repository: Repository = "default/images/shop".parse().unwrap();
    let config = b"{}";
    let push = async |content: Content, bytes: &'static [u8]| {
        let stream = Box::pin(futures::stream::iter([Ok(bytes.into())]));
        world
            .registry
            .push(&repository, &content, stream)
            .await
            .unwrap();
    };
    push(Content::Blob(Digest::of(config)), config).await;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(config), "size": config.len() },
        "layers": [],
    });
    let manifest: &'static [u8] = manifest.to_string().leak().as_bytes();
    let digest = Digest::of(manifest);
    push(Content::Manifest(digest.clone()), manifest).await;
    let tag: Tag = "v1".parse().unwrap();
    world
        .registry
        .tag(&repository, &digest, &tag)
        .await
        .unwrap();

    let body = json!({ "source": { "image": { "reference": "default/images/shop:v1" } } });
    let accepted = world.send(Method::PUT, &application(), &body).await;
    world.succeeded(&accepted).await;
    let shown = world.get(&application()).await.json();
    assert_eq!(
        shown["source"]["image"],
        json!({ "reference": "default/images/shop:v1", "digest": digest })
    );

    let body = json!({ "source": { "image": { "reference": "default/images/shop:v2" } } });
    let answer = world.send(Method::PUT, &application(), &body).await;
    assert_eq!(answer.kind(), "not-found");
}
