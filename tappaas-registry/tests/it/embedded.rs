use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tappaas_core::{
    Digest, ErrorKind, Result,
    backend::{Content, Reference, Registry, Repository},
};
use tappaas_registry::embedded;
use tempfile::TempDir;

use crate::{
    content::{bytes, image, noise},
    world::open,
};

pub(crate) async fn push(
    registry: &dyn Registry,
    repository: &Repository,
    content: Content,
    bytes: &Bytes,
) -> Result<()> {
    let chunks: Vec<_> = bytes
        .chunks(70_000)
        .map(Bytes::copy_from_slice)
        .map(Ok)
        .collect();
    registry
        .push(repository, &content, stream::iter(chunks).boxed())
        .await
}

pub(crate) async fn pull(
    registry: &dyn Registry,
    repository: &Repository,
    content: Content,
) -> Result<Vec<u8>> {
    let chunks: Vec<Bytes> = registry
        .pull(repository, &content)
        .await?
        .try_collect()
        .await?;
    Ok(chunks.concat())
}

#[tokio::test]
async fn an_image_goes_in_and_comes_out() {
    let directory = TempDir::new().unwrap();
    let registry: Arc<dyn Registry> =
        Arc::new(embedded::Registry::new(open(directory.path()).await));
    let repository: Repository = "team/app".parse().unwrap();
    let (config, layer) = (Bytes::from("{}"), noise(1, 1 << 20));
    let manifest = bytes(&image(&config, &[&layer]));
    let digest = Digest::of(&manifest);
    for content in [&config, &layer] {
        push(
            &*registry,
            &repository,
            Content::Blob(Digest::of(content)),
            content,
        )
        .await
        .unwrap();
    }
    push(
        &*registry,
        &repository,
        Content::Manifest(digest.clone()),
        &manifest,
    )
    .await
    .unwrap();
    let tag = "v1".parse().unwrap();
    registry.tag(&repository, &digest, &tag).await.unwrap();
    let resolved = registry
        .resolve(&repository, &Reference::Tag(tag.clone()))
        .await
        .unwrap();
    assert_eq!(resolved, Some(digest.clone()));
    assert_eq!(registry.list(&repository).await.unwrap(), [tag]);
    let pulled = pull(&*registry, &repository, Content::Manifest(digest))
        .await
        .unwrap();
    assert_eq!(pulled, manifest);
    let pulled = pull(&*registry, &repository, Content::Blob(Digest::of(&layer)))
        .await
        .unwrap();
    assert_eq!(pulled, layer);
}

#[tokio::test]
async fn content_survives_a_restart() {
    let directory = TempDir::new().unwrap();
    let repository: Repository = "app".parse().unwrap();
    let manifest = bytes(&image(b"{}", &[]));
    let digest = Digest::of(&manifest);
    {
        let registry = embedded::Registry::new(open(directory.path()).await);
        push(
            &registry,
            &repository,
            Content::Blob(Digest::of("{}")),
            &"{}".into(),
        )
        .await
        .unwrap();
        push(
            &registry,
            &repository,
            Content::Manifest(digest.clone()),
            &manifest,
        )
        .await
        .unwrap();
        registry
            .tag(&repository, &digest, &"v1".parse().unwrap())
            .await
            .unwrap();
    }
    let registry = embedded::Registry::new(open(directory.path()).await);
    let resolved = registry
        .resolve(&repository, &Reference::Tag("v1".parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(resolved, Some(digest.clone()));
    assert_eq!(
        pull(&registry, &repository, Content::Manifest(digest))
            .await
            .unwrap(),
        manifest
    );
}

#[tokio::test]
async fn a_push_that_breaks_off_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let registry = embedded::Registry::new(open(directory.path()).await);
    let repository: Repository = "app".parse().unwrap();
    let content = noise(2, 3 << 20);
    let digest = Digest::of(&content);
    let broken = stream::iter([
        Ok(content.slice(..2 << 20)),
        Err(tappaas_core::Error::unavailable("the sender went away")),
    ]);
    let error = registry
        .push(&repository, &Content::Blob(digest.clone()), broken.boxed())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = pull(&registry, &repository, Content::Blob(digest))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_repository_of_another_registry_is_refused() {
    let directory = TempDir::new().unwrap();
    let registry = embedded::Registry::new(open(directory.path()).await);
    let repository: Repository = "ghcr.io/team/app".parse().unwrap();
    let error = registry.list(&repository).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
