use serde_json::{Value, json};
use tappaas_core::{
    Digest, ErrorKind,
    backend::{Content, Reference},
};

use super::{RegistryFixture, Shelf, SmallImage, shelf::describe};
use crate::conformance::{
    Verdict,
    verdict::{refused, same},
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest is refused with `Invalid` unless everything it names is in the repository.
pub async fn a_manifest_needs_everything_it_names(fixture: &dyn RegistryFixture) -> Verdict {
    let (shelf, other) = (Shelf::new(fixture, "a"), Shelf::new(fixture, "other"));
    let image = SmallImage::new("layer");
    other.push_image(&image).await?;
    let answer = shelf.push_manifest(&image.manifest).await;
    refused(
        answer,
        ErrorKind::Invalid,
        "a manifest without configuration and layer",
    )?;
    shelf.push_blob(&image.config).await?;
    let answer = shelf.push_manifest(&image.manifest).await;
    refused(answer, ErrorKind::Invalid, "a manifest without its layer")?;
    let answer = shelf.pull(&Content::Manifest(image.digest())).await;
    refused(answer, ErrorKind::NotFound, "the refused manifest")?;
    shelf.push_blob(&image.layer).await?;
    shelf.push_manifest(&image.manifest).await?;
    Ok(())
}

/// A manifest is refused with `Invalid` if it contradicts itself.
pub async fn a_manifest_must_not_contradict_itself(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let image = SmallImage::new("layer");
    shelf.push_image(&image).await?;
    let good: Value = serde_json::from_slice(&image.manifest)?;
    let changed = |field: &str, value: Value| {
        let mut manifest = good.clone();
        manifest[field] = value;
        manifest.to_string()
    };
    for (what, manifest) in [
        (
            "a manifest that says it is an index",
            changed("mediaType", json!(INDEX)),
        ),
        (
            "a manifest that is an index, too",
            changed("manifests", json!([])),
        ),
        (
            "a manifest that says it is a layer",
            changed("mediaType", json!("application/octet-stream")),
        ),
        (
            "a manifest of another schema",
            changed("schemaVersion", json!(1)),
        ),
        (
            "an index that says it is an image",
            json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "manifests": [],
            })
            .to_string(),
        ),
        ("text", "no manifest".to_owned()),
        ("nothing", String::new()),
    ] {
        let answer = shelf.push_manifest(manifest.as_bytes()).await;
        refused(answer, ErrorKind::Invalid, what)?;
    }
    Ok(())
}

/// A manifest above 4 MiB is `Exhausted`.
pub async fn a_manifest_has_at_most_4_mib(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let image = SmallImage::new("layer");
    shelf.push_image(&image).await?;
    let mut manifest: Value = serde_json::from_slice(&image.manifest)?;
    manifest["annotations"] = json!({ "padding": "x".repeat(5 << 20) });
    let answer = shelf.push_manifest(manifest.to_string().as_bytes()).await;
    refused(answer, ErrorKind::Exhausted, "a manifest of 5 MiB")
}

/// An index names manifests, which must be there, too.
pub async fn an_index_names_manifests(fixture: &dyn RegistryFixture) -> Verdict {
    let shelf = Shelf::new(fixture, "a");
    let image = SmallImage::new("layer");
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [describe(MANIFEST, &image.manifest)],
    });
    let index = index.to_string();
    let answer = shelf.push_manifest(index.as_bytes()).await;
    refused(answer, ErrorKind::Invalid, "an index without its manifest")?;
    shelf.push_image(&image).await?;
    shelf.push_manifest(index.as_bytes()).await?;
    let digest = Digest::of(&index);
    let by_digest = Reference::Digest(digest.clone());
    let resolved = shelf
        .registry
        .resolve(&shelf.repository, &by_digest)
        .await?;
    same(resolved, Some(digest), "the index")
}
