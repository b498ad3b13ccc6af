use std::{fs, os::unix::fs::symlink, path::Path};

use bytes::Bytes;
use serde_json::json;
use tappaas_core::{
    Digest, ErrorKind,
    backend::{Content, Image, Reference, Registry, Repository},
};
use tappaas_registry::{copy, embedded, oci_layout};
use tempfile::TempDir;

use crate::{
    content::{INDEX, MANIFEST, bytes, image, index, noise},
    embedded::{pull, push},
    world::open,
};

fn repository() -> Repository {
    "team/app".parse().unwrap()
}

/// Pushes an index over two images with a layer in common, tags it, and returns it.
async fn push_index(registry: &dyn Registry) -> Image {
    let repository = repository();
    let (config, shared) = (Bytes::from("{}"), noise(1, 1 << 20));
    let layers = [noise(2, 100_000), noise(3, 200_000)];
    for blob in [&config, &shared, &layers[0], &layers[1]] {
        push(registry, &repository, Content::Blob(Digest::of(blob)), blob)
            .await
            .unwrap();
    }
    let images = layers.map(|layer| bytes(&image(&config, &[&shared, &layer])));
    let list = bytes(&index(MANIFEST, &[&images[0], &images[1]]));
    for manifest in [&images[0], &images[1], &list] {
        push(
            registry,
            &repository,
            Content::Manifest(Digest::of(manifest)),
            manifest,
        )
        .await
        .unwrap();
    }
    let digest = Digest::of(&list);
    registry
        .tag(&repository, &digest, &"v1".parse().unwrap())
        .await
        .unwrap();
    Image { repository, digest }
}

#[tokio::test]
async fn an_index_goes_out_to_a_directory_and_into_another_registry() {
    let directory = TempDir::new().unwrap();
    let first = embedded::Registry::new(open(&directory.path().join("first")).await);
    let image = push_index(&first).await;
    let path = directory.path().join("carried");
    {
        let layout = oci_layout::Registry::create(&path, repository())
            .await
            .unwrap();
        for _ in 0..2 {
            copy(&first, &image, &layout, &repository()).await.unwrap();
        }
        layout
            .tag(&repository(), &image.digest, &"v1".parse().unwrap())
            .await
            .unwrap();
    }
    let names: Vec<_> = fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let layout = oci_layout::Registry::open(&path, repository())
        .await
        .unwrap();
    let tag = "v1".parse().unwrap();
    assert_eq!(
        layout.images().await.unwrap(),
        [(image.digest.clone(), Some(tag))]
    );
    let store = open(&directory.path().join("second")).await;
    let second = embedded::Registry::new(store.clone());
    let elsewhere: Repository = "elsewhere".parse().unwrap();
    copy(&layout, &image, &second, &elsewhere).await.unwrap();
    let by_digest = Reference::Digest(image.digest.clone());
    assert_eq!(
        second.resolve(&elsewhere, &by_digest).await.unwrap(),
        Some(image.digest)
    );
    assert_eq!(store.verify().await.unwrap(), []);
}

#[tokio::test]
async fn a_layout_keeps_what_it_does_not_know() {
    let directory = TempDir::new().unwrap();
    let layout = oci_layout::Registry::create(directory.path(), repository())
        .await
        .unwrap();
    let image = push_index(&layout).await;
    let path = directory.path().join("index.json");
    let mut document: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(document["manifests"][0]["mediaType"], INDEX);
    document["annotations"] = json!({"a": "b"});
    document["manifests"][0]["platform"] = json!({"os": "linux"});
    fs::write(&path, document.to_string()).unwrap();
    layout
        .tag(&repository(), &image.digest, &"v2".parse().unwrap())
        .await
        .unwrap();
    layout
        .delete(&repository(), &Reference::Tag("v2".parse().unwrap()))
        .await
        .unwrap();
    let after: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(after, document);
}

#[tokio::test]
async fn a_layout_has_one_repository() {
    let directory = TempDir::new().unwrap();
    let layout = oci_layout::Registry::create(directory.path(), repository())
        .await
        .unwrap();
    let image = push_index(&layout).await;
    let other: Repository = "other".parse().unwrap();
    assert_eq!(layout.list(&other).await.unwrap(), []);
    assert_eq!(
        layout
            .resolve(&other, &Reference::Digest(image.digest.clone()))
            .await
            .unwrap(),
        None
    );
    let error = pull(&layout, &other, Content::Manifest(image.digest))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = push(&layout, &other, Content::Blob(Digest::of("x")), &"x".into())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_layout_from_anywhere_is_not_trusted() {
    let directory = TempDir::new().unwrap();
    let layout = oci_layout::Registry::create(directory.path(), repository())
        .await
        .unwrap();
    push_index(&layout).await;
    let blob = |content: &str| {
        directory
            .path()
            .join("blobs/sha256")
            .join(Digest::of(content).hex())
    };
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path().join("secret"), blob("secret")).unwrap();
    fs::write(blob("damaged"), "other").unwrap();
    fs::create_dir(blob("directory")).unwrap();
    for content in ["secret", "damaged", "directory"] {
        let pulled = pull(&layout, &repository(), Content::Blob(Digest::of(content))).await;
        assert!(pulled.is_err(), "{content}");
    }
    let escaping = json!({"schemaVersion": 2, "manifests": [{"mediaType": MANIFEST, "digest": "sha256:../../x", "size": 1}]});
    fs::write(directory.path().join("index.json"), escaping.to_string()).unwrap();
    assert_eq!(
        layout.list(&repository()).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    fs::write(directory.path().join("index.json"), vec![b' '; 5 << 20]).unwrap();
    assert_eq!(
        layout.list(&repository()).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[tokio::test]
async fn what_is_no_layout_is_told() {
    let directory = TempDir::new().unwrap();
    let opened = oci_layout::Registry::open(directory.path(), repository()).await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::NotFound);
    write(
        directory.path(),
        "oci-layout",
        r#"{"imageLayoutVersion":"2.0.0"}"#,
    );
    let opened = oci_layout::Registry::open(directory.path(), repository()).await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Unsupported);
    let created = oci_layout::Registry::create(directory.path(), repository()).await;
    assert_eq!(created.unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn endless_nesting_of_indexes_is_refused() {
    let directory = TempDir::new().unwrap();
    let layout = oci_layout::Registry::create(directory.path().join("layout"), repository())
        .await
        .unwrap();
    let mut image = push_index(&layout).await;
    for _ in 0..5 {
        let inner = pull(
            &layout,
            &repository(),
            Content::Manifest(image.digest.clone()),
        )
        .await
        .unwrap();
        let outer = bytes(&index(INDEX, &[&inner]));
        image.digest = Digest::of(&outer);
        push(
            &layout,
            &repository(),
            Content::Manifest(image.digest.clone()),
            &outer,
        )
        .await
        .unwrap();
    }
    let target = embedded::Registry::new(open(&directory.path().join("registry")).await);
    let error = copy(&layout, &image, &target, &repository())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

fn write(directory: &Path, name: &str, content: &str) {
    fs::write(directory.join(name), content).unwrap();
}
