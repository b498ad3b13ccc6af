//! What nodes are served.

use http::{Method, StatusCode};

use crate::{
    content::{bytes, image, noise},
    world::World,
};

#[tokio::test]
async fn nodes_get_what_they_know_the_digest_of_and_nothing_else() {
    let world = World::start().await;
    let (config, layer) = (noise(1, 64), noise(2, 70_000));
    let config_digest = world.push_blob("a/app", &config).await;
    let layer_digest = world.push_blob("a/app", &layer).await;
    let document = image(&config, &[&layer]);
    let manifest = tappaas_core::Digest::of(bytes(&document));
    let pushed = world.push_manifest("a/app", "latest", &document).await;
    pushed.is(StatusCode::CREATED);

    let (address, _stop) = world.pulls().await;
    let ask =
        async |method: Method, path: String| world.send_to(address, method, &path, &[], "").await;
    ask(Method::GET, "/v2/".into()).await.is(StatusCode::OK);
    for (kind, digest, length) in [
        ("manifests", &manifest, bytes(&document).len()),
        ("blobs", &config_digest, config.len()),
        ("blobs", &layer_digest, layer.len()),
    ] {
        let path = format!("/v2/a/app/{kind}/{digest}");
        let head = ask(Method::HEAD, path.clone()).await.is(StatusCode::OK);
        assert_eq!(head.header("content-length"), length.to_string());
        let got = ask(Method::GET, path).await.is(StatusCode::OK);
        assert_eq!(tappaas_core::Digest::of(&got.body), *digest);
        // In no other repository than its own.
        let elsewhere = ask(Method::GET, format!("/v2/b/app/{kind}/{digest}")).await;
        elsewhere.is(StatusCode::NOT_FOUND);
    }
    for path in [
        "/v2/a/app/manifests/latest",
        "/v2/a/app/tags/list",
        "/v2/_catalog",
        "/v2/a/app/referrers/sha256:00",
    ] {
        let refused = ask(Method::GET, path.into()).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{path}");
    }
    for (method, path) in [
        (Method::POST, "/v2/a/app/blobs/uploads/".to_owned()),
        (Method::PUT, format!("/v2/a/app/manifests/{manifest}")),
        (Method::DELETE, format!("/v2/a/app/manifests/{manifest}")),
        (Method::DELETE, format!("/v2/a/app/blobs/{layer_digest}")),
    ] {
        let refused = ask(method, path.clone()).await;
        assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}
