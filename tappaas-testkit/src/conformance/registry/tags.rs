use tappaas_core::{
    Digest, ErrorKind,
    backend::{Content, Reference},
};

use super::{RegistryFixture, Shelf, SmallImage, shelf::tag};
use crate::conformance::{
    Verdict,
    verdict::{refused, same},
};

/// `tag` points a tag at a manifest, `resolve` returns its digest, and tagging again moves the tag at once.
pub async fn a_tag_resolves_to_its_manifest_and_moves_at_once(
    fixture: &dyn RegistryFixture,
) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let one = shelf.push_image(&SmallImage::new("one")).await?;
    let two = shelf.push_image(&SmallImage::new("two")).await?;
    for digest in [&one, &two, &two, &one] {
        shelf.tag(digest, "latest").await?;
        same(
            shelf.resolve("latest").await?.as_ref(),
            Some(digest),
            "the tag",
        )?;
    }
    let by_digest = Reference::Digest(two.clone());
    let resolved = shelf
        .registry
        .resolve(&shelf.repository, &by_digest)
        .await?;
    same(
        resolved,
        Some(two),
        "the digest of a manifest that is there",
    )
}

/// `tag` of a manifest that is not there is `NotFound`; a blob is none.
pub async fn a_tag_needs_its_manifest(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let answer = shelf.tag(&Digest::of("unknown"), "latest").await;
    refused(answer, ErrorKind::NotFound, "a tag for nothing")?;
    let blob = shelf.push_blob(b"blob").await?;
    let answer = shelf.tag(blob.digest(), "latest").await;
    refused(answer, ErrorKind::NotFound, "a tag for a blob")?;
    same(shelf.resolve("latest").await?, None, "the refused tag")
}

/// `resolve` of an unknown tag or digest returns `None`.
pub async fn an_unknown_reference_resolves_to_none(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let unknown = Reference::Digest(Digest::of("unknown"));
    for _ in 0..2 {
        same(shelf.resolve("latest").await?, None, "an unknown tag")?;
        let resolved = shelf.registry.resolve(&shelf.repository, &unknown).await?;
        same(resolved, None, "an unknown digest")?;
        shelf.push_image(&SmallImage::new("layer")).await?;
    }
    Ok(())
}

/// `list` returns the tags of a repository in order; of an unknown repository none.
pub async fn tags_are_listed_in_order(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    same(
        shelf.registry.list(&shelf.repository).await?,
        vec![],
        "the tags of nothing",
    )?;
    let digest = shelf.push_image(&SmallImage::new("layer")).await?;
    for name in ["b", "A", "v1.10", "v1.9", "_x"] {
        shelf.tag(&digest, name).await?;
    }
    let expected = ["A", "_x", "b", "v1.10", "v1.9"].map(tag).to_vec();
    same(
        shelf.registry.list(&shelf.repository).await?,
        expected,
        "the tags",
    )
}

/// `delete` of a tag leaves the manifest.
pub async fn deleting_a_tag_leaves_its_manifest(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let image = SmallImage::new("layer");
    let digest = shelf.push_image(&image).await?;
    shelf.tag(&digest, "one").await?;
    shelf.tag(&digest, "two").await?;
    let one = Reference::Tag(tag("one"));
    shelf.registry.delete(&shelf.repository, &one).await?;
    same(shelf.resolve("one").await?, None, "the deleted tag")?;
    same(
        shelf.resolve("two").await?,
        Some(digest.clone()),
        "the other tag",
    )?;
    let pulled = shelf.pull(&Content::Manifest(digest)).await?;
    same(pulled, image.manifest, "the manifest")
}

/// `delete` of a digest removes the manifest and every tag that points at it.
pub async fn deleting_a_manifest_removes_its_tags(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let gone = shelf.push_image(&SmallImage::new("gone")).await?;
    let kept = shelf.push_image(&SmallImage::new("kept")).await?;
    for (digest, name) in [(&gone, "one"), (&gone, "two"), (&kept, "three")] {
        shelf.tag(digest, name).await?;
    }
    let by_digest = Reference::Digest(gone.clone());
    shelf.registry.delete(&shelf.repository, &by_digest).await?;
    let answer = shelf.pull(&Content::Manifest(gone)).await;
    refused(answer, ErrorKind::NotFound, "the deleted manifest")?;
    let left = shelf.registry.list(&shelf.repository).await?;
    same(left, vec![tag("three")], "the tags left")?;
    same(
        shelf.resolve("one").await?,
        None,
        "a tag of the deleted manifest",
    )?;
    same(
        shelf.resolve("three").await?,
        Some(kept),
        "the tag of the other manifest",
    )
}

/// `delete` of the unknown succeeds, and may be repeated.
pub async fn deleting_the_unknown_succeeds(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let digest = Digest::of("unknown");
    let references = [Reference::Digest(digest), Reference::Tag(tag("unknown"))];
    for _ in 0..2 {
        for reference in &references {
            shelf.registry.delete(&shelf.repository, reference).await?;
        }
        shelf.push_image(&SmallImage::new("layer")).await?;
    }
    Ok(())
}
