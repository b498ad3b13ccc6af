use futures::future::join_all;
use tappaas_core::{
    Digest, ErrorKind,
    backend::{Content, Reference},
};

use super::{RegistryFixture, Shelf, SmallImage};
use crate::conformance::{
    Verdict,
    macros::ensure,
    verdict::{refused, same},
};

/// What `push` took, `pull` gives back, byte for byte.
pub async fn what_is_pushed_is_pulled_byte_for_byte(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a/b");
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    for blob in [&b""[..], b"x", b"\0\xff\r\n", &large] {
        let content = shelf.push_blob(blob).await?;
        let pulled = shelf.pull(&content).await?;
        ensure!(
            pulled == blob,
            "{} bytes came back as {} others",
            blob.len(),
            pulled.len()
        );
    }
    let image = SmallImage::new("layer");
    let digest = shelf.push_image(&image).await?;
    let pulled = shelf.pull(&Content::Manifest(digest)).await?;
    same(pulled, image.manifest, "the manifest")
}

/// `push` of content that does not hash to the expected digest is `Invalid` and leaves nothing.
pub async fn content_that_does_not_hash_to_its_digest_is_refused(
    fixture: &dyn RegistryFixture,
) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let image = SmallImage::new("layer");
    shelf.push_image(&image).await?;
    let other = Digest::of("other content");
    for (content, bytes) in [
        (Content::Blob(other.clone()), &b"content"[..]),
        (Content::Manifest(other), &image.manifest),
    ] {
        let answer = shelf.push(&content, bytes).await;
        refused(answer, ErrorKind::Invalid, "other content than announced")?;
        let answer = shelf.pull(&content).await;
        refused(answer, ErrorKind::NotFound, "what was refused")?;
    }
    Ok(())
}

/// `push` counts only once every byte is there: one that breaks off leaves nothing, and can be made again.
pub async fn a_push_that_breaks_off_leaves_nothing(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let content = Content::Blob(Digest::of(b"content"));
    for bytes in [&b"con"[..], b"content"] {
        let answer = shelf.push_broken(&content, bytes).await;
        ensure!(answer.is_err(), "a push that broke off was accepted");
        let answer = shelf.pull(&content).await;
        refused(
            answer,
            ErrorKind::NotFound,
            "what was not pushed to its end",
        )?;
    }
    shelf.push(&content, b"content").await?;
    let pulled = shelf.pull(&content).await?;
    ensure!(pulled == b"content"[..], "pulled {pulled:?}");
    Ok(())
}

/// `push` of content that is there already succeeds.
pub async fn pushing_what_is_there_succeeds(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let image = SmallImage::new("layer");
    for _ in 0..2 {
        shelf.push_image(&image).await?;
    }
    let pulled = shelf.pull(&Content::Blob(Digest::of(&image.layer))).await?;
    same(pulled, image.layer, "the layer")
}

/// `pull` of unknown content is `NotFound`; a blob is no manifest, and a manifest no blob.
pub async fn unknown_content_is_not_found(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let unknown = Digest::of("unknown");
    for content in [Content::Blob(unknown.clone()), Content::Manifest(unknown)] {
        let answer = shelf.pull(&content).await;
        refused(
            answer,
            ErrorKind::NotFound,
            "unknown content of an unknown repository",
        )?;
    }
    let image = SmallImage::new("layer");
    shelf.push_image(&image).await?;
    let layer_as_manifest = Content::Manifest(Digest::of(&image.layer));
    let answer = shelf.pull(&layer_as_manifest).await;
    refused(answer, ErrorKind::NotFound, "a layer as a manifest")
}

/// Content of one repository is not visible in another.
pub async fn repositories_do_not_see_each_others_content(fixture: &dyn RegistryFixture) -> Verdict {
    let (one, other) = (Shelf::new(fixture, "one"), Shelf::new(fixture, "other"));
    let image = SmallImage::new("layer");
    let digest = one.push_image(&image).await?;
    one.tag(&digest, "latest").await?;
    other.push_blob(b"something").await?;
    for content in [
        Content::Blob(Digest::of(&image.layer)),
        Content::Manifest(digest.clone()),
    ] {
        let answer = other.pull(&content).await;
        refused(answer, ErrorKind::NotFound, "content of another repository")?;
    }
    let by_digest = Reference::Digest(digest);
    let resolved = other
        .registry
        .resolve(&other.repository, &by_digest)
        .await?;
    same(resolved, None, "a manifest of another repository")?;
    same(
        other.resolve("latest").await?,
        None,
        "a tag of another repository",
    )?;
    same(
        other.registry.list(&other.repository).await?,
        vec![],
        "the tags of another repository",
    )
}

/// Several pushes of the same content at once all succeed.
pub async fn of_concurrent_pushes_all_succeed(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let image = SmallImage::new("layer");
    for pushed in join_all((0..8).map(|_| shelf.push_image(&image))).await {
        pushed?;
    }
    let pulled = shelf.pull(&Content::Blob(Digest::of(&image.layer))).await?;
    same(pulled, image.layer, "the layer")
}
