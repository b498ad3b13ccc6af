use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tappaas_core::{Digest, backend::Tag};

use crate::layout::MediaType;

/// The annotation that holds a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// `index.json`: the images of a layout. Fields that are not known here stay as they are.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    schema_version: u64,
    manifests: Vec<Entry>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            schema_version: 2,
            manifests: Vec::new(),
            rest: Map::new(),
        }
    }

    /// The images, and the tags of those that have one.
    pub(super) fn images(&self) -> impl Iterator<Item = (&Digest, Option<Tag>)> {
        self.manifests.iter().map(|entry| {
            let tag = entry
                .annotations
                .get(REF_NAME)
                .and_then(|name| name.parse().ok());
            (&entry.digest, tag)
        })
    }

    /// Points a tag at a manifest, and away from any other.
    pub(super) fn tag(&mut self, tag: &Tag, media_type: MediaType, digest: Digest, size: u64) {
        self.untag(tag);
        self.manifests.push(Entry {
            media_type: media_type.as_str().to_owned(),
            digest,
            size,
            annotations: BTreeMap::from([(REF_NAME.to_owned(), tag.as_str().to_owned())]),
            rest: Map::new(),
        });
    }

    pub(super) fn untag(&mut self, tag: &Tag) {
        self.manifests.retain(|entry| {
            entry
                .annotations
                .get(REF_NAME)
                .is_none_or(|name| name != tag.as_str())
        });
    }

    /// Forgets a manifest and its tags.
    pub(super) fn remove(&mut self, digest: &Digest) {
        self.manifests.retain(|entry| entry.digest != *digest);
    }
}
