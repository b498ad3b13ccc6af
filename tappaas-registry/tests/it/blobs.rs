use bytes::Bytes;
use http::{Method, StatusCode};
use tappaas_core::Digest;

use crate::{content::noise, world::World};

#[tokio::test]
async fn the_base_says_that_this_is_a_registry() {
    let world = World::start().await;
    for path in ["/v2", "/v2/"] {
        let reply = world.get(path).await.is(StatusCode::OK);
        assert_eq!(
            reply.header("docker-distribution-api-version"),
            "registry/2.0"
        );
    }
}

#[tokio::test]
async fn a_pushed_blob_is_pulled_byte_for_byte() {
    let world = World::start().await;
    for len in [0, 1, 4096, 262_144, 262_145, 3 << 20] {
        let content = noise(len as u64, len);
        let digest = world.push_blob("a/b", &content).await;
        let path = format!("/v2/a/b/blobs/{digest}");
        let reply = world.get(&path).await.is(StatusCode::OK);
        assert_eq!(reply.body, content, "{len}");
        assert_eq!(reply.header("docker-content-digest"), digest.as_str());
        let head = world.head(&path).await.is(StatusCode::OK);
        assert_eq!(head.header("content-length"), len.to_string());
        assert_eq!(head.header("docker-content-digest"), digest.as_str());
        assert!(head.body.is_empty());
    }
}

#[tokio::test]
async fn an_unknown_blob_is_not_found() {
    let world = World::start().await;
    world.push_blob("a", &Bytes::from("here")).await;
    let nowhere = Digest::of("nowhere");
    for path in [
        format!("/v2/a/blobs/{nowhere}"),
        format!("/v2/unknown/blobs/{nowhere}"),
    ] {
        world
            .get(&path)
            .await
            .fails(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
        world.head(&path).await.is(StatusCode::NOT_FOUND);
        world
            .delete(&path)
            .await
            .fails(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
    }
}

#[tokio::test]
async fn a_blob_of_one_repository_is_not_visible_in_another() {
    let world = World::start().await;
    let digest = world.push_blob("mine", &Bytes::from("private")).await;
    let theirs = format!("/v2/yours/blobs/{digest}");
    world
        .get(&theirs)
        .await
        .fails(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
    world.head(&theirs).await.is(StatusCode::NOT_FOUND);
    // Neither can it be had by mounting it from a repository that does not have it, or from anywhere.
    for query in [
        format!("mount={digest}&from=yours"),
        format!("mount={digest}"),
    ] {
        let reply = world
            .post(&format!("/v2/yours/blobs/uploads/?{query}"), "")
            .await;
        reply.is(StatusCode::ACCEPTED);
        world.head(&theirs).await.is(StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_mounted_blob_is_there_without_an_upload() {
    let world = World::start().await;
    let content = Bytes::from("shared");
    let digest = world.push_blob("from/here", &content).await;
    let path = format!("/v2/to/there/blobs/uploads/?mount={digest}&from=from/here");
    let reply = world.post(&path, "").await.is(StatusCode::CREATED);
    assert_eq!(
        reply.header("location"),
        format!("/v2/to/there/blobs/{digest}")
    );
    let path = format!("/v2/to/there/blobs/{digest}");
    assert_eq!(world.get(&path).await.is(StatusCode::OK).body, content);
    world
        .delete(&format!("/v2/from/here/blobs/{digest}"))
        .await
        .is(StatusCode::ACCEPTED);
    assert_eq!(world.get(&path).await.is(StatusCode::OK).body, content);
}

#[tokio::test]
async fn a_mount_of_something_malformed_is_refused() {
    let world = World::start().await;
    let digest = Digest::of("x");
    let path = format!("/v2/a/blobs/uploads/?mount={digest}&from=../b");
    world
        .post(&path, "")
        .await
        .fails(StatusCode::BAD_REQUEST, "NAME_INVALID");
    let path = "/v2/a/blobs/uploads/?mount=sha256:x&from=b";
    world
        .post(path, "")
        .await
        .fails(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
}

#[tokio::test]
async fn a_range_of_a_blob_is_pulled_alone() {
    let world = World::start().await;
    let content = noise(7, 1 << 20);
    let digest = world.push_blob("a", &content).await;
    let path = format!("/v2/a/blobs/{digest}");
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1000-", 1000, 1 << 20),
        ("bytes=300000-700000", 300_000, 700_001),
        ("bytes=-5", (1 << 20) - 5, 1 << 20),
    ] {
        let reply = world
            .send(Method::GET, &path, &[("range", range)], "")
            .await;
        let reply = reply.is(StatusCode::PARTIAL_CONTENT);
        assert_eq!(reply.body, content[from..to], "{range}");
        assert_eq!(
            reply.header("content-range"),
            format!("bytes {from}-{}/1048576", to - 1)
        );
    }
    let reply = world
        .send(Method::GET, &path, &[("range", "bytes=1048576-")], "")
        .await;
    let reply = reply.fails(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID");
    assert_eq!(reply.header("content-range"), "bytes */1048576");
    let conditional = [("range", "bytes=0-0"), ("if-range", "\"x\"")];
    let reply = world.send(Method::GET, &path, &conditional, "").await;
    assert_eq!(reply.is(StatusCode::OK).body.len(), 1 << 20);
}

#[tokio::test]
async fn a_deleted_blob_is_gone_from_its_repository_alone() {
    let world = World::start().await;
    let content = Bytes::from("twice");
    let digest = world.push_blob("one", &content).await;
    world.push_blob("two", &content).await;
    let (one, two) = (
        format!("/v2/one/blobs/{digest}"),
        format!("/v2/two/blobs/{digest}"),
    );
    world.delete(&one).await.is(StatusCode::ACCEPTED);
    world
        .get(&one)
        .await
        .fails(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
    world
        .delete(&one)
        .await
        .fails(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
    assert_eq!(world.get(&two).await.is(StatusCode::OK).body, content);
}

#[tokio::test]
async fn a_path_that_escapes_reaches_nothing() {
    let world = World::start().await;
    let outside = world.directory.path().join("secret");
    std::fs::write(&outside, "secret").unwrap();
    let digest = Digest::of("x");
    for path in [
        "/v2/../secret/tags/list".to_owned(),
        "/v2/%2e%2e/tags/list".to_owned(),
        "/v2/a/%2e%2e/%2e%2e/tags/list".to_owned(),
        "/v2/a%2f..%2f../manifests/latest".to_owned(),
        "/v2/a/manifests/..%2f..%2fformat".to_owned(),
        "/v2/a/manifests/%2e%2e".to_owned(),
        "/v2/a/blobs/sha256:..%2f..%2fformat".to_owned(),
        format!("/v2/_blobs/blobs/{digest}"),
        "/v2/a%00/tags/list".to_owned(),
        "/v2/a/blobs/uploads/%2e%2e%2fformat".to_owned(),
    ] {
        let reply = world.get(&path).await.is(StatusCode::NOT_FOUND);
        assert!(
            !reply.json()["errors"][0]["message"]
                .as_str()
                .unwrap()
                .contains("secret\0")
        );
        let refused = world.put(&path, "{}").await.status;
        assert!(refused.is_client_error(), "{path}: {refused}");
    }
    let names: Vec<_> = std::fs::read_dir(world.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert_eq!(std::fs::read(&outside).unwrap(), b"secret");
}

#[tokio::test]
async fn a_method_that_an_endpoint_does_not_have_is_told() {
    let world = World::start().await;
    let reply = world.send(Method::PATCH, "/v2/a/tags/list", &[], "").await;
    assert_eq!(
        reply
            .fails(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED")
            .header("allow"),
        "GET"
    );
    world
        .get("/v2/_catalog")
        .await
        .fails(StatusCode::NOT_FOUND, "UNSUPPORTED");
    let referrers = format!("/v2/a/referrers/{}", Digest::of("x"));
    world
        .get(&referrers)
        .await
        .fails(StatusCode::NOT_FOUND, "UNSUPPORTED");
}
