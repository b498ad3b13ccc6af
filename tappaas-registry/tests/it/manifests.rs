use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use tappaas_core::Digest;
use tappaas_registry::Limits;

use crate::{
    content::{INDEX, MANIFEST, bytes, descriptor, image, index},
    world::World,
};

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Pushes an image made of `text` under a tag, and returns its manifest.
async fn push_image(world: &World, repository: &str, tag: &str, text: &str) -> Bytes {
    let (config, layer) = (Bytes::from("{}"), Bytes::from(text.to_owned()));
    world.push_blob(repository, &config).await;
    world.push_blob(repository, &layer).await;
    let document = image(&config, &[&layer]);
    world
        .push_manifest(repository, tag, &document)
        .await
        .is(StatusCode::CREATED);
    bytes(&document)
}

#[tokio::test]
async fn a_pushed_manifest_is_pulled_by_tag_and_digest() {
    let world = World::start().await;
    let manifest = push_image(&world, "team/app", "v1", "layer").await;
    let digest = Digest::of(&manifest);
    for reference in ["v1", digest.as_str()] {
        let path = format!("/v2/team/app/manifests/{reference}");
        let reply = world.get(&path).await.is(StatusCode::OK);
        assert_eq!(reply.body, manifest);
        let head = world.head(&path).await.is(StatusCode::OK);
        for reply in [reply, head] {
            assert_eq!(reply.header("docker-content-digest"), digest.as_str());
            assert_eq!(reply.header("content-type"), MANIFEST);
            assert_eq!(reply.header("content-length"), manifest.len().to_string());
        }
    }
}

#[tokio::test]
async fn a_manifest_keeps_its_exact_bytes() {
    let world = World::start().await;
    world.push_blob("a", &Bytes::from("{}")).await;
    let document = format!(
        "\n {}\n\n",
        json!({"custom": 1, "schemaVersion": 2, "config": descriptor("x", b"{}")})
    );
    let content = Bytes::from(document);
    let headers = [("content-type", MANIFEST)];
    let path = format!("/v2/a/manifests/{}", Digest::of(&content));
    world
        .send(Method::PUT, &path, &headers, content.clone())
        .await
        .is(StatusCode::CREATED);
    assert_eq!(world.get(&path).await.is(StatusCode::OK).body, content);
}

#[tokio::test]
async fn a_manifest_that_names_something_missing_is_refused() {
    let world = World::start().await;
    let (config, layer) = (Bytes::from("{}"), Bytes::from("layer"));
    world.push_blob("a", &config).await;
    world.push_blob("other", &layer).await;
    let document = image(&config, &[&layer]);
    let refused = world.push_manifest("a", "v1", &document).await;
    refused.fails(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
    let list = index(MANIFEST, &[&bytes(&document)]);
    let refused = world.push_manifest("a", "v1", &list).await;
    refused.fails(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
    world
        .get("/v2/a/manifests/v1")
        .await
        .fails(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    world.push_blob("a", &layer).await;
    world
        .push_manifest("a", "v1", &document)
        .await
        .is(StatusCode::CREATED);
}

#[tokio::test]
async fn a_manifest_that_lies_about_a_size_is_refused() {
    let world = World::start().await;
    world.push_blob("a", &Bytes::from("{}")).await;
    let mut document = image(b"{}", &[]);
    document["config"]["size"] = 3.into();
    let refused = world.push_manifest("a", "v1", &document).await;
    refused.fails(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
}

#[tokio::test]
async fn a_manifest_whose_media_types_disagree_is_refused() {
    let world = World::start().await;
    let manifest = push_image(&world, "a", "v1", "layer").await;
    let invalid =
        |reply: crate::world::Reply| reply.fails(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
    for media_type in [INDEX, DOCKER, "text/plain", ""] {
        let headers = [("content-type", media_type)];
        invalid(
            world
                .send(
                    Method::PUT,
                    "/v2/a/manifests/v2",
                    &headers,
                    manifest.clone(),
                )
                .await,
        );
    }
    // One document that is an image to one reader and an index to another.
    let mut both = image(b"{}", &[]);
    both["manifests"] = json!([]);
    invalid(world.push_manifest("a", "v2", &both).await);
    // An index that calls an image what it is not.
    invalid(
        world
            .push_manifest("a", "v2", &index(DOCKER, &[&manifest]))
            .await,
    );
    world
        .get("/v2/a/manifests/v2")
        .await
        .fails(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    world
        .push_manifest("a", "v2", &index(MANIFEST, &[&manifest]))
        .await
        .is(StatusCode::CREATED);
}

#[tokio::test]
async fn an_image_of_docker_is_kept_as_it_is() {
    let world = World::start().await;
    world.push_blob("a", &Bytes::from("{}")).await;
    let mut document = image(b"{}", &[]);
    document["mediaType"] = DOCKER.into();
    world
        .push_manifest("a", "v1", &document)
        .await
        .is(StatusCode::CREATED);
    let reply = world.get("/v2/a/manifests/v1").await.is(StatusCode::OK);
    assert_eq!(reply.header("content-type"), DOCKER);
}

#[tokio::test]
async fn a_manifest_by_digest_must_have_that_digest() {
    let world = World::start().await;
    world.push_blob("a", &Bytes::from("{}")).await;
    let document = image(b"{}", &[]);
    let refused = world
        .push_manifest("a", Digest::of("other").as_str(), &document)
        .await;
    refused.fails(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    for reference in ["-x", "a%20b", &"x".repeat(129), "sha256:0"] {
        let refused = world.push_manifest("a", reference, &document).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{reference}");
    }
}

#[tokio::test]
async fn a_push_by_digest_sets_the_tags_it_names() {
    let world = World::start().await;
    world.push_blob("a", &Bytes::from("{}")).await;
    let document = image(b"{}", &[]);
    let digest = Digest::of(bytes(&document));
    let reply = world
        .push_manifest("a", &format!("{digest}?tag=1&tag=1.2"), &document)
        .await;
    assert_eq!(reply.is(StatusCode::CREATED).header("oci-tag"), "1, 1.2");
    for tag in ["1", "1.2"] {
        let reply = world
            .head(&format!("/v2/a/manifests/{tag}"))
            .await
            .is(StatusCode::OK);
        assert_eq!(reply.header("docker-content-digest"), digest.as_str());
    }
    let many: String = (0..40).map(|n| format!("&tag=t{n}")).collect();
    let reply = world
        .push_manifest("a", &format!("{digest}?x{many}"), &document)
        .await;
    reply.fails(StatusCode::URI_TOO_LONG, "MANIFEST_INVALID");
}

#[tokio::test]
async fn a_manifest_above_the_limit_is_refused_and_one_below_is_not() {
    let world = World::start().await;
    world.push_blob("a", &Bytes::from("{}")).await;
    let mut document = image(b"{}", &[]);
    document["annotations"] = json!({"padding": "x".repeat((4 << 20) - 1024)});
    world
        .push_manifest("a", "large", &document)
        .await
        .is(StatusCode::CREATED);
    document["annotations"] = json!({"padding": "x".repeat(4 << 20)});
    let refused = world.push_manifest("a", "larger", &document).await;
    refused.fails(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID");
}

#[tokio::test]
async fn hostile_manifests_are_refused() {
    let world = World::start().await;
    let many = format!(
        "{{\"schemaVersion\":2,\"manifests\":[{}]}}",
        vec!["{}"; 1_000_000].join(",")
    );
    let deep = "[".repeat(1 << 20);
    let huge = r#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:x","size":1e400}}"#;
    for content in ["", "null", "[]", "{", &many, &deep, huge] {
        let headers = [("content-type", MANIFEST)];
        let reply = world
            .send(
                Method::PUT,
                "/v2/a/manifests/x",
                &headers,
                content.to_owned(),
            )
            .await;
        reply.fails(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
    }
    world
        .get("/v2/a/tags/list")
        .await
        .fails(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
}

#[tokio::test]
async fn tags_are_listed_in_order_and_in_pages() {
    let limits = Limits {
        page_max: 4,
        ..Limits::default()
    };
    let world = World::limited(limits).await;
    world
        .get("/v2/a/tags/list")
        .await
        .fails(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
    for tag in ["b", "a", "Z", "c", "a.1", "d"] {
        push_image(&world, "a", tag, "layer").await;
    }
    let list = async |query: &str| {
        let reply = world
            .get(&format!("/v2/a/tags/list{query}"))
            .await
            .is(StatusCode::OK);
        let link = reply
            .headers
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        (reply.json()["tags"].clone(), link)
    };
    let next =
        |n: usize, last: &str| Some(format!("</v2/a/tags/list?n={n}&last={last}>; rel=\"next\""));
    assert_eq!(
        list("").await,
        (json!(["Z", "a", "a.1", "b"]), next(4, "b"))
    );
    assert_eq!(list("?n=4&last=b").await, (json!(["c", "d"]), None));
    assert_eq!(list("?n=2").await, (json!(["Z", "a"]), next(2, "a")));
    assert_eq!(list("?n=2&last=c").await, (json!(["d"]), None));
    assert_eq!(list("?last=aa").await, (json!(["b", "c", "d"]), None));
    assert_eq!(list("?n=0").await, (json!([]), None));
    assert_eq!(
        list("?n=100&last=..").await.0,
        json!(["Z", "a", "a.1", "b"])
    );
    world
        .get("/v2/a/tags/list?n=x")
        .await
        .fails(StatusCode::BAD_REQUEST, "SIZE_INVALID");
}

#[tokio::test]
async fn a_deleted_tag_leaves_the_manifest() {
    let world = World::start().await;
    let digest = Digest::of(push_image(&world, "a", "v1", "layer").await);
    push_image(&world, "a", "v2", "layer").await;
    world
        .delete("/v2/a/manifests/v1")
        .await
        .is(StatusCode::ACCEPTED);
    world
        .get("/v2/a/manifests/v1")
        .await
        .fails(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    world
        .delete("/v2/a/manifests/v1")
        .await
        .fails(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    world.head("/v2/a/manifests/v2").await.is(StatusCode::OK);
    world
        .head(&format!("/v2/a/manifests/{digest}"))
        .await
        .is(StatusCode::OK);
}

#[tokio::test]
async fn a_deleted_manifest_takes_its_tags_along() {
    let world = World::start().await;
    let digest = Digest::of(push_image(&world, "a", "v1", "layer").await);
    push_image(&world, "a", "v2", "layer").await;
    push_image(&world, "a", "v3", "other").await;
    world
        .delete(&format!("/v2/a/manifests/{digest}"))
        .await
        .is(StatusCode::ACCEPTED);
    for gone in ["v1", "v2", digest.as_str()] {
        let path = format!("/v2/a/manifests/{gone}");
        world
            .get(&path)
            .await
            .fails(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    }
    assert_eq!(
        world.get("/v2/a/tags/list").await.json()["tags"],
        json!(["v3"])
    );
}

#[tokio::test]
async fn what_a_manifest_names_cannot_be_deleted_before_it() {
    let world = World::start().await;
    let manifest = push_image(&world, "a", "v1", "layer").await;
    let list = index(MANIFEST, &[&manifest]);
    world
        .push_manifest("a", "list", &list)
        .await
        .is(StatusCode::CREATED);
    let blob = format!("/v2/a/blobs/{}", Digest::of("layer"));
    let image = format!("/v2/a/manifests/{}", Digest::of(&manifest));
    world
        .delete(&blob)
        .await
        .fails(StatusCode::CONFLICT, "DENIED");
    world
        .delete(&image)
        .await
        .fails(StatusCode::CONFLICT, "DENIED");
    world
        .delete(&format!("/v2/a/manifests/{}", Digest::of(bytes(&list))))
        .await
        .is(StatusCode::ACCEPTED);
    world.delete(&image).await.is(StatusCode::ACCEPTED);
    world.delete(&blob).await.is(StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_manifest_of_one_repository_is_not_visible_in_another() {
    let world = World::start().await;
    let digest = Digest::of(push_image(&world, "mine", "v1", "layer").await);
    for reference in ["v1", digest.as_str()] {
        let path = format!("/v2/yours/manifests/{reference}");
        world
            .get(&path)
            .await
            .fails(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
        world.head(&path).await.is(StatusCode::NOT_FOUND);
        world
            .delete(&path)
            .await
            .fails(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    }
    world.head("/v2/mine/manifests/v1").await.is(StatusCode::OK);
}
