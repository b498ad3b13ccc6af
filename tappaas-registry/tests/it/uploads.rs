use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tappaas_core::Digest;
use tappaas_registry::Limits;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    content::noise,
    world::{Reply, World},
};

async fn patch(world: &World, location: &str, range: &str, chunk: impl Into<Bytes>) -> Reply {
    world
        .send(Method::PATCH, location, &[("content-range", range)], chunk)
        .await
}

fn closing(location: &str, digest: &Digest) -> String {
    format!("{location}?digest={digest}")
}

#[tokio::test]
async fn a_post_and_a_put_make_a_blob() {
    let world = World::start().await;
    let content = noise(1, 700_000);
    let digest = Digest::of(&content);
    let location = world.begin("a").await;
    let reply = world
        .put(&closing(&location, &digest), content.clone())
        .await;
    let blob = reply.is(StatusCode::CREATED).header("location");
    assert_eq!(world.get(&blob).await.is(StatusCode::OK).body, content);
    world
        .get(&location)
        .await
        .fails(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn chunks_in_order_make_a_blob() {
    let world = World::start().await;
    let content = noise(2, 10_000);
    let digest = Digest::of(&content);
    let location = world.begin("a").await;
    let status = world.get(&location).await.is(StatusCode::NO_CONTENT);
    assert_eq!(status.header("range"), "0-0");
    let reply = patch(&world, &location, "0-3999", content.slice(..4000))
        .await
        .is(StatusCode::ACCEPTED);
    assert_eq!(reply.header("range"), "0-3999");
    let location = reply.header("location");
    let reply = patch(&world, &location, "4000-7999", content.slice(4000..8000)).await;
    assert_eq!(reply.is(StatusCode::ACCEPTED).header("range"), "0-7999");
    let status = world.get(&location).await.is(StatusCode::NO_CONTENT);
    assert_eq!(
        (status.header("range"), status.header("location")),
        ("0-7999".to_owned(), location.clone())
    );
    let last = [("content-range", "8000-9999")];
    let reply = world
        .send(
            Method::PUT,
            &closing(&location, &digest),
            &last,
            content.slice(8000..),
        )
        .await;
    let blob = reply.is(StatusCode::CREATED).header("location");
    assert_eq!(world.get(&blob).await.is(StatusCode::OK).body, content);
}

#[tokio::test]
async fn streamed_patches_need_no_range() {
    let world = World::start().await;
    let content = noise(3, 5000);
    let location = world.begin("a").await;
    world
        .send(Method::PATCH, &location, &[], content.slice(..2000))
        .await
        .is(StatusCode::ACCEPTED);
    world
        .send(Method::PATCH, &location, &[], content.slice(2000..))
        .await
        .is(StatusCode::ACCEPTED);
    let reply = world
        .put(&closing(&location, &Digest::of(&content)), "")
        .await;
    reply.is(StatusCode::CREATED);
}

#[tokio::test]
async fn a_chunk_out_of_order_is_refused_and_told_where_to_go_on() {
    let world = World::start().await;
    let location = world.begin("a").await;
    patch(&world, &location, "1-4", "1234")
        .await
        .fails(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID");
    patch(&world, &location, "0-3", "0123")
        .await
        .is(StatusCode::ACCEPTED);
    for range in ["0-3", "3-6", "5-8", "8-11"] {
        let refused = patch(&world, &location, range, "xxxx").await;
        let refused = refused.fails(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID");
        assert_eq!(
            (refused.header("range"), refused.header("location")),
            ("0-3".to_owned(), location.clone())
        );
    }
    let closing = closing(&location, &Digest::of("01234567"));
    let refused = world
        .send(Method::PUT, &closing, &[("content-range", "6-7")], "67")
        .await;
    refused.fails(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID");
    patch(&world, &location, "4-7", "4567")
        .await
        .is(StatusCode::ACCEPTED);
    world.put(&closing, "").await.is(StatusCode::CREATED);
}

#[tokio::test]
async fn a_chunk_of_another_length_than_it_says_is_refused() {
    let world = World::start().await;
    for (range, chunk) in [("0-3", "01234"), ("0-3", "012")] {
        let location = world.begin("a").await;
        patch(&world, &location, range, chunk)
            .await
            .fails(StatusCode::BAD_REQUEST, "SIZE_INVALID");
    }
    let location = world.begin("a").await;
    for range in [
        "4",
        "bytes 0-3/4",
        "3-0",
        "-3",
        "0-",
        "0-18446744073709551615",
    ] {
        patch(&world, &location, range, "0123")
            .await
            .fails(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID");
    }
}

#[tokio::test]
async fn content_that_is_not_what_was_announced_leaves_nothing() {
    let world = World::start().await;
    let (digest, actual) = (Digest::of("announced"), Digest::of("sent"));
    let monolithic = format!("/v2/a/blobs/uploads/?digest={digest}");
    world
        .post(&monolithic, "sent")
        .await
        .fails(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    let location = world.begin("a").await;
    let reply = world.put(&closing(&location, &digest), "sent").await;
    reply.fails(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    world
        .get(&location)
        .await
        .fails(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
    for digest in [digest, actual] {
        world
            .head(&format!("/v2/a/blobs/{digest}"))
            .await
            .is(StatusCode::NOT_FOUND);
    }
    assert_eq!(
        std::fs::read_dir(world.path().join("uploads"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn a_digest_that_is_none_is_refused() {
    let world = World::start().await;
    let location = world.begin("a").await;
    let sha512 = format!("sha512:{}", "0".repeat(128));
    for digest in ["", "latest", "sha256:", "sha256:ABC", "md5:00", &sha512] {
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        world
            .post(&path, "x")
            .await
            .fails(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        let path = format!("{location}?digest={digest}");
        world
            .put(&path, "x")
            .await
            .fails(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    }
    world
        .put(&location, "x")
        .await
        .fails(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    let path = "/v2/a/blobs/uploads/?digest-algorithm=sha512";
    world
        .post(path, "")
        .await
        .fails(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
}

#[tokio::test]
async fn a_cancelled_upload_is_gone() {
    let world = World::start().await;
    let location = world.begin("a").await;
    let large = noise(4, 2 << 20);
    world
        .send(Method::PATCH, &location, &[], large.clone())
        .await
        .is(StatusCode::ACCEPTED);
    let uploads = world.path().join("uploads");
    assert_eq!(std::fs::read_dir(&uploads).unwrap().count(), 1);
    world.delete(&location).await.is(StatusCode::NO_CONTENT);
    assert_eq!(std::fs::read_dir(&uploads).unwrap().count(), 0);
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let reply = world.send(method, &location, &[], "").await;
        reply.fails(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
    }
    let reply = world
        .put(&closing(&location, &Digest::of(&large)), "")
        .await;
    reply.fails(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn an_upload_belongs_to_its_repository() {
    let world = World::start().await;
    let location = world.begin("mine").await;
    let theirs = location.replace("mine", "yours");
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let reply = world.send(method, &theirs, &[], "").await;
        reply.fails(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
    }
    world.get(&location).await.is(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn uploads_are_bounded_and_idle_ones_give_way() {
    let limits = Limits {
        uploads_max: 2,
        upload_idle_seconds: 60,
        ..Limits::default()
    };
    let world = World::limited(limits).await;
    let first = world.begin("a").await;
    world.begin("a").await;
    let refused = world.post("/v2/a/blobs/uploads/", "").await;
    let refused = refused.fails(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS");
    assert_eq!(refused.header("retry-after"), "60");
    world.clock.advance(Duration::from_secs(40));
    world.get(&first).await.is(StatusCode::NO_CONTENT);
    world.clock.advance(Duration::from_secs(40));
    world.begin("a").await;
    world.get(&first).await.is(StatusCode::NO_CONTENT);
    world.clock.advance(Duration::from_secs(61));
    world
        .get(&first)
        .await
        .fails(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_a_chunk_can_be_resumed() {
    let world = World::start().await;
    let content = noise(5, 2 << 20);
    let location = world.begin("a").await;
    let mut cut = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nContent-Range: 0-{}\r\n\r\n",
        content.len(),
        content.len() - 1
    );
    cut.write_all(head.as_bytes()).await.unwrap();
    cut.write_all(&content[..1 << 20]).await.unwrap();
    drop(cut);
    let received = settled(&world, &location, 1 << 20).await;
    let range = format!("{received}-{}", content.len() - 1);
    let reply = patch(&world, &location, &range, content.slice(received..)).await;
    reply.is(StatusCode::ACCEPTED);
    let reply = world
        .put(&closing(&location, &Digest::of(&content)), "")
        .await;
    let blob = reply.is(StatusCode::CREATED).header("location");
    assert_eq!(world.get(&blob).await.is(StatusCode::OK).body, content);
}

/// Waits until the server has seen all that was sent before the cut; returns how much the upload has.
async fn settled(world: &World, location: &str, sent: usize) -> usize {
    tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let range = world
                .get(location)
                .await
                .is(StatusCode::NO_CONTENT)
                .header("range");
            let received = range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
            if received >= sent {
                return received;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_sender_that_pauses_too_long_is_given_up() {
    let limits = Limits {
        body_pause_seconds: 1,
        ..Limits::default()
    };
    let world = World::limited(limits).await;
    let location = world.begin("a").await;
    let mut slow = TcpStream::connect(world.address).await.unwrap();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut reply)).await;
    ended.unwrap().unwrap();
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 408 "), "{reply}");
    let status = world.get(&location).await.is(StatusCode::NO_CONTENT);
    assert_eq!(status.header("range"), "0-2");
}

#[tokio::test]
async fn many_pushes_of_one_blob_at_once_all_succeed() {
    let world = World::start().await;
    let content = noise(6, 1 << 20);
    let pushes = (0..16).map(|n| {
        let (world, content) = (&world, &content);
        async move {
            world
                .push_blob(&format!("repository-{}", n % 4), content)
                .await
        }
    });
    let digests = futures::future::join_all(pushes).await;
    assert!(digests.iter().all(|digest| *digest == Digest::of(&content)));
    assert_eq!(world.store.verify().await.unwrap(), []);
    assert_eq!(
        std::fs::read_dir(world.path().join("uploads"))
            .unwrap()
            .count(),
        0
    );
}
