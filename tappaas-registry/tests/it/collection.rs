use std::{fs, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use tappaas_core::{Digest, backend::Reference};
use tappaas_registry::{Error, RepositoryName, Store};
use tempfile::TempDir;

use crate::{
    content::{MANIFEST, bytes, image, index, noise},
    world::{World, open},
};

const GRACE: Duration = Duration::from_secs(3600);

async fn push_blob(store: &Store, name: &RepositoryName, content: &Bytes) -> Result<Digest, Error> {
    let mut writer = store.writer();
    writer.write(content.clone()).await?;
    store.commit(name, writer, None).await
}

#[tokio::test]
async fn what_no_manifest_names_goes_after_its_grace() {
    let world = World::start().await;
    let (kept, loose) = (Bytes::from("kept"), Bytes::from("loose"));
    for content in [&kept, &loose] {
        world.push_blob("a", content).await;
    }
    world
        .push_manifest("a", "v1", &image(&kept, &[]))
        .await
        .is(StatusCode::CREATED);
    let early = world.store.collect(GRACE).await.unwrap().unwrap();
    assert_eq!((early.entries, early.blobs), (0, 0));
    world.clock.advance(GRACE * 2);
    let late = world.store.collect(GRACE).await.unwrap().unwrap();
    assert_eq!((late.entries, late.blobs, late.bytes), (1, 1, 5));
    world
        .head(&format!("/v2/a/blobs/{}", Digest::of(&loose)))
        .await
        .is(StatusCode::NOT_FOUND);
    world
        .head(&format!("/v2/a/blobs/{}", Digest::of(&kept)))
        .await
        .is(StatusCode::OK);
    assert_eq!(world.store.verify().await.unwrap(), []);
}

/// A client that is told that a blob is there does not push it, and then names it.
#[tokio::test]
async fn asking_for_a_blob_begins_its_grace_anew() {
    let world = World::start().await;
    let content = Bytes::from("content");
    let path = format!("/v2/a/blobs/{}", world.push_blob("a", &content).await);
    for _ in 0..2 {
        world.clock.advance(GRACE / 3 * 2);
        world.head(&path).await.is(StatusCode::OK);
        let collected = world.store.collect(GRACE).await.unwrap().unwrap();
        assert_eq!(collected.entries, 0);
    }
    world.clock.advance(GRACE * 2);
    let collected = world.store.collect(GRACE).await.unwrap().unwrap();
    assert_eq!((collected.entries, collected.blobs), (1, 1));
}

#[tokio::test]
async fn the_grace_of_a_deleted_image_begins_with_its_deletion() {
    let world = World::start().await;
    let (config, layer) = (Bytes::from("config"), Bytes::from("layer"));
    for content in [&config, &layer] {
        world.push_blob("a", content).await;
    }
    let document = image(&config, &[&layer]);
    world
        .push_manifest("a", "v1", &document)
        .await
        .is(StatusCode::CREATED);
    world.clock.advance(GRACE * 2);
    world
        .delete(&format!("/v2/a/manifests/{}", Digest::of(bytes(&document))))
        .await
        .is(StatusCode::ACCEPTED);
    let early = world.store.collect(GRACE).await.unwrap().unwrap();
    assert_eq!((early.entries, early.blobs, early.repositories), (0, 0, 0));
    world.clock.advance(GRACE * 2);
    let late = world.store.collect(GRACE).await.unwrap().unwrap();
    assert_eq!((late.entries, late.blobs, late.repositories), (2, 3, 1));
    world
        .get("/v2/a/tags/list")
        .await
        .fails(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
}

#[tokio::test]
async fn an_index_keeps_its_images_and_their_layers() {
    let world = World::start().await;
    let layer = Bytes::from("layer");
    world.push_blob("a", &layer).await;
    let document = image(&layer, &[]);
    let digest = Digest::of(bytes(&document));
    world
        .push_manifest("a", digest.as_str(), &document)
        .await
        .is(StatusCode::CREATED);
    let list = index(MANIFEST, &[&bytes(&document)]);
    world
        .push_manifest("a", "v1", &list)
        .await
        .is(StatusCode::CREATED);
    world.clock.advance(GRACE * 2);
    let collected = world.store.collect(Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(collected.blobs, 0);
    assert_eq!(world.store.verify().await.unwrap(), []);
}

#[tokio::test]
async fn a_blob_stays_as_long_as_one_repository_needs_it() {
    let world = World::start().await;
    let shared = Bytes::from("shared");
    for repository in ["a", "a/b"] {
        world.push_blob(repository, &shared).await;
        world
            .push_manifest(repository, "v1", &image(&shared, &[]))
            .await
            .is(StatusCode::CREATED);
    }
    let manifest = Digest::of(bytes(&image(&shared, &[])));
    world
        .delete(&format!("/v2/a/manifests/{manifest}"))
        .await
        .is(StatusCode::ACCEPTED);
    let collected = world.store.collect(Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(
        (collected.entries, collected.blobs, collected.repositories),
        (1, 0, 1)
    );
    world
        .get("/v2/a/tags/list")
        .await
        .fails(StatusCode::NOT_FOUND, "NAME_UNKNOWN");
    world
        .head(&format!("/v2/a/b/blobs/{}", Digest::of(&shared)))
        .await
        .is(StatusCode::OK);
    world
        .delete(&format!("/v2/a/b/manifests/{manifest}"))
        .await
        .is(StatusCode::ACCEPTED);
    let collected = world.store.collect(Duration::ZERO).await.unwrap().unwrap();
    assert_eq!((collected.blobs, collected.repositories), (2, 1));
    assert_eq!(
        fs::read_dir(world.path().join("repositories"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn an_upload_in_progress_is_not_collected() {
    let world = World::start().await;
    let content = noise(1, 2 << 20);
    let location = world.begin("a").await;
    let sent = world
        .send(http::Method::PATCH, &location, &[], content.clone())
        .await;
    sent.is(StatusCode::ACCEPTED);
    world.store.collect(Duration::ZERO).await.unwrap().unwrap();
    let closed = world
        .put(&format!("{location}?digest={}", Digest::of(&content)), "")
        .await;
    closed.is(StatusCode::CREATED);
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_stops_the_collection() {
    let world = World::start().await;
    let (layer, loose) = (Bytes::from("layer"), Bytes::from("loose"));
    for content in [&layer, &loose] {
        world.push_blob("a", content).await;
    }
    let document = image(&layer, &[]);
    world
        .push_manifest("a", "v1", &document)
        .await
        .is(StatusCode::CREATED);
    let digest = Digest::of(bytes(&document));
    let path = world
        .path()
        .join("blobs/sha256")
        .join(&digest.hex()[..2])
        .join(digest.hex());
    fs::write(path, "{}").unwrap();
    let refused = world.store.collect(Duration::ZERO).await;
    assert!(matches!(refused, Err(Error::Damaged(damaged)) if damaged == digest));
    world
        .head(&format!("/v2/a/blobs/{}", Digest::of(&layer)))
        .await
        .is(StatusCode::OK);
    // And it does not stay "running" for ever.
    world
        .push_manifest("a", "v1", &document)
        .await
        .is(StatusCode::CREATED);
    assert!(world.store.collect(Duration::ZERO).await.unwrap().is_some());
}

/// Collections without any grace run against pushes, tags and deletions. A push may be told that a blob has gone, and
/// does it again; what was accepted stays whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collections_during_pushes_take_nothing_that_is_named() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path()).await;
    let pushers: Vec<_> = (0..4)
        .map(|pusher| tokio::spawn(push_and_delete(store.clone(), pusher)))
        .collect();
    let mut collections = 0;
    while !pushers.iter().all(tokio::task::JoinHandle::is_finished) {
        store.collect(Duration::ZERO).await.unwrap();
        collections += 1;
    }
    for pusher in pushers {
        pusher.await.unwrap();
    }
    assert!(collections > 10, "only {collections} collections ran");
    assert_eq!(store.verify().await.unwrap(), []);
}

async fn push_and_delete(store: Store, pusher: u64) {
    // Two pushers share a repository, and all of them share layers.
    let name: RepositoryName = format!("repository-{}", pusher % 2).parse().unwrap();
    for round in 0..60 {
        let layers = [noise(round % 7, 3000), noise(100 + round, 10_000)];
        let digest = push_until_whole(&store, &name, &layers).await;
        let tag = format!("v{}", round % 5).parse().unwrap();
        store.tag(&name, &digest, &tag).await.or_else(gone).unwrap();
        if round % 3 == 0 {
            store
                .delete(&name, &Reference::Digest(digest))
                .await
                .unwrap();
        }
    }
}

async fn push_until_whole(store: &Store, name: &RepositoryName, layers: &[Bytes; 2]) -> Digest {
    let document = bytes(&image(&layers[0], &[&layers[1]]));
    for _ in 0..1000 {
        for layer in layers {
            push_blob(store, name, layer).await.unwrap();
        }
        match store.put_manifest(name, None, document.clone(), &[]).await {
            Ok(digest) => return digest,
            Err(Error::ManifestBlobUnknown { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("collections starve a push");
}

/// The other pusher of the repository may have deleted the same image.
fn gone(error: Error) -> Result<(), Error> {
    match error {
        Error::ManifestUnknown { .. } => Ok(()),
        error => Err(error),
    }
}
