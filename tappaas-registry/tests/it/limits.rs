use std::{fs, path::Path};

use bytes::Bytes;
use http::StatusCode;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tappaas_core::Digest;
use tappaas_registry::{Config, Error, Limits, Store};
use tempfile::TempDir;

use crate::{
    content::noise,
    world::{TestClock, World, open},
};

#[tokio::test]
async fn a_blob_above_the_limit_is_refused_and_leaves_nothing() {
    let limits = Limits {
        blob_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let world = World::limited(limits).await;
    world.push_blob("a", &noise(1, 1 << 20)).await;
    let larger = noise(2, (1 << 20) + 1);
    let digest = Digest::of(&larger);
    let monolithic = format!("/v2/a/blobs/uploads/?digest={digest}");
    let refused = world.post(&monolithic, larger.clone()).await;
    refused.fails(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID");
    let location = world.begin("a").await;
    let refused = world
        .put(&format!("{location}?digest={digest}"), larger)
        .await;
    refused.fails(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID");
    world
        .head(&format!("/v2/a/blobs/{digest}"))
        .await
        .is(StatusCode::NOT_FOUND);
    world.delete(&location).await.is(StatusCode::NO_CONTENT);
    assert_eq!(
        fs::read_dir(world.path().join("uploads")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn one_process_at_a_time_has_the_directory() {
    let directory = TempDir::new().unwrap();
    let first = open(directory.path()).await;
    let second = Store::open(Config::new(directory.path()), TestClock::new()).await;
    assert!(matches!(second, Err(Error::Locked(_))));
    drop(first);
    open(directory.path()).await;
}

#[tokio::test]
async fn a_directory_of_something_else_is_left_alone() {
    for (file, content) in [
        ("format", "tappaas-registry 2\n"),
        ("format", ""),
        ("notes.txt", "mine"),
    ] {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join(file), content).unwrap();
        let opened = Store::open(Config::new(directory.path()), TestClock::new()).await;
        assert!(matches!(opened, Err(Error::Format { .. })), "{file}");
        assert_eq!(
            fs::read_to_string(directory.path().join(file)).unwrap(),
            content
        );
        assert!(!directory.path().join("blobs").exists());
    }
}

#[tokio::test]
async fn the_directory_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("deep/registry");
    open(&path).await;
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[tokio::test]
async fn what_unfinished_uploads_left_is_gone_after_a_start() {
    let directory = TempDir::new().unwrap();
    drop(open(directory.path()).await);
    fs::write(directory.path().join("uploads/17"), "half").unwrap();
    let store = open(directory.path()).await;
    assert_eq!(
        fs::read_dir(directory.path().join("uploads"))
            .unwrap()
            .count(),
        0
    );
    let writer = store.writer();
    store
        .commit(&"a".parse().unwrap(), writer, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn content_that_the_disk_damaged_is_noticed_and_mended_by_a_push() {
    let world = World::start().await;
    let content = noise(3, 600_000);
    let digest = world.push_blob("a", &content).await;
    let path = world
        .path()
        .join("blobs/sha256")
        .join(&digest.hex()[..2])
        .join(digest.hex());
    let mut damaged = content.to_vec();
    damaged[599_999] ^= 1;
    for bad in [&damaged[..], &damaged[..300_000]] {
        fs::write(&path, bad).unwrap();
        let name = "a".parse().unwrap();
        let chunks = world.store.blob(&name, &digest).await.unwrap().unwrap();
        let read: Result<Vec<Bytes>, Error> = futures::TryStreamExt::try_collect(chunks).await;
        assert!(matches!(read, Err(Error::Damaged(_))), "{read:?}");
        assert_eq!(
            world.store.verify().await.unwrap(),
            [tappaas_registry::Fault::Blob(digest.clone())]
        );
        world.push_blob("a", &content).await;
        assert_eq!(world.store.verify().await.unwrap(), []);
    }
}

/// Runs in a mount namespace of a thread: only root may make one in a process with threads.
#[test]
fn a_full_disk_is_told_and_leaves_the_rest_whole() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!(
            "NOT RUN: a_full_disk_is_told_and_leaves_the_rest_whole needs root to mount a small tmpfs"
        );
        return;
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().to_owned();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .unwrap();
        mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=8m"),
        )
        .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(fill(&path));
    })
    .join()
    .unwrap();
}

async fn fill(path: &Path) {
    let store = open(path).await;
    let name = "a".parse().unwrap();
    let push = async |seed, len| {
        let content = noise(seed, len);
        let mut writer = store.writer();
        for start in (0..len).step_by(1 << 16) {
            writer
                .write(content.slice(start..len.min(start + (1 << 16))))
                .await?;
        }
        store
            .commit(&name, writer, Some(&Digest::of(&content)))
            .await
    };
    let mut writer = store.writer();
    let mut failures = Vec::new();
    for _ in 0..64 {
        failures.extend(writer.write(noise(9, 1 << 20)).await.err());
    }
    assert!(matches!(failures[0], Error::Full { .. }), "{failures:?}");
    assert!(matches!(failures[1], Error::Lost), "{failures:?}");
    drop(writer);
    let first = push(1, 2 << 20).await.unwrap();
    let refused: tappaas_core::Error = push(2, 16 << 20).await.unwrap_err().into();
    assert_eq!(refused.kind(), tappaas_core::ErrorKind::Exhausted);
    assert!(refused.message().contains("no space is left"), "{refused}");
    assert_eq!(fs::read_dir(path.join("uploads")).unwrap().count(), 0);
    assert_eq!(store.blob_size(&name, &first).await.unwrap(), Some(2 << 20));
    push(3, 1 << 20).await.unwrap();
    assert_eq!(store.verify().await.unwrap(), []);
}
