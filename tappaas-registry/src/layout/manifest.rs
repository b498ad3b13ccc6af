use std::fmt;

use serde::Deserialize;
use tappaas_core::Digest;

use crate::{Error, Result};

/// The largest manifest that every registry takes.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// The kinds of manifest the registry keeps.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MediaType {
    /// An OCI image index.
    Index,
    /// An OCI image manifest.
    Manifest,
    /// A Docker manifest list, schema 2: the index of foreign images.
    DockerList,
    /// A Docker image manifest, version 2, schema 2: the manifest of foreign images.
    DockerManifest,
}

impl MediaType {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [
        Self::Index,
        Self::Manifest,
        Self::DockerList,
        Self::DockerManifest,
    ];

    /// The name used in headers and documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Index => "application/vnd.oci.image.index.v1+json",
            Self::Manifest => "application/vnd.oci.image.manifest.v1+json",
            Self::DockerList => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    /// The kind with this name; parameters after a `;` do not count.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let name = text.split(';').next().unwrap_or_default().trim();
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(name))
    }

    fn is_index(self) -> bool {
        matches!(self, Self::Index | Self::DockerList)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A reference to content, as manifests have it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// What a manifest says of itself, checked for contradictions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) media_type: MediaType,
    /// The configuration and the layers of an image.
    pub(crate) blobs: Vec<Descriptor>,
    /// The entries of an index.
    pub(crate) manifests: Vec<Descriptor>,
}

impl Parsed {
    /// Everything that must be there for the manifest to be whole.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.blobs
            .iter()
            .chain(&self.manifests)
            .map(|named| &named.digest)
    }
}

/// Reads a manifest that was sent as `declared`, if that was said.
///
/// A document that two readers could take for different things is refused: what it says of itself, what it was sent as,
/// and the fields it has must agree.
pub(crate) fn parse(content: &[u8], declared: Option<&str>) -> Result<Parsed> {
    let document: Document =
        serde_json::from_slice(content).map_err(|error| invalid(error.to_string()))?;
    if document.schema_version != 2 {
        return Err(invalid(format!(
            "its schemaVersion is {}, not 2",
            document.schema_version
        )));
    }
    let media_type = document.kind(declared)?;
    if media_type.is_index() {
        let (None, None, Some(manifests)) = (document.config, document.layers, document.manifests)
        else {
            return Err(invalid(
                "an index has `manifests`, and neither `config` nor `layers`",
            ));
        };
        return Ok(Parsed {
            media_type,
            blobs: Vec::new(),
            manifests,
        });
    }
    let (Some(config), None) = (document.config, document.manifests) else {
        return Err(invalid(
            "an image manifest has `config`, and no `manifests`",
        ));
    };
    let mut blobs = vec![config];
    blobs.extend(document.layers.unwrap_or_default());
    Ok(Parsed {
        media_type,
        blobs,
        manifests: Vec::new(),
    })
}

/// The fields that matter; others are kept in the stored bytes and ignored here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    fn kind(&self, declared: Option<&str>) -> Result<MediaType> {
        let known = |name: &str| {
            MediaType::parse(name).ok_or_else(|| {
                let name: String = name
                    .chars()
                    .take(80)
                    .flat_map(char::escape_default)
                    .collect();
                invalid(format!("`{name}` is not a manifest's media type"))
            })
        };
        match (self.media_type.as_deref(), declared) {
            (Some(own), Some(declared)) if known(own)? != known(declared)? => {
                Err(invalid(format!(
                    "it says it is {}, but was sent as {}",
                    known(own)?,
                    known(declared)?
                )))
            }
            (Some(own), _) => known(own),
            (None, Some(declared)) => match known(declared)? {
                kind @ (MediaType::DockerList | MediaType::DockerManifest) => {
                    Err(invalid(format!("{kind} needs a `mediaType`")))
                }
                kind => Ok(kind),
            },
            (None, None) if self.manifests.is_some() => Ok(MediaType::Index),
            (None, None) => Ok(MediaType::Manifest),
        }
    }
}

fn invalid(why: impl Into<String>) -> Error {
    Error::ManifestInvalid(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

    fn descriptor(content: &str) -> Value {
        json!({"mediaType": "x/y", "digest": Digest::of(content), "size": content.len()})
    }

    fn image(media_type: Option<&str>) -> Value {
        let mut document =
            json!({"schemaVersion": 2, "config": descriptor("c"), "layers": [descriptor("l")]});
        if let Some(media_type) = media_type {
            document["mediaType"] = media_type.into();
        }
        document
    }

    fn read(document: &Value, declared: Option<&str>) -> Result<Parsed> {
        parse(document.to_string().as_bytes(), declared)
    }

    #[test]
    fn the_kind_comes_from_document_header_or_shape() {
        for (own, declared, kind) in [
            (Some(OCI), Some(OCI), MediaType::Manifest),
            (Some(DOCKER), None, MediaType::DockerManifest),
            (
                None,
                Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
                MediaType::Manifest,
            ),
            (None, None, MediaType::Manifest),
        ] {
            let parsed = read(&image(own), declared).unwrap();
            assert_eq!(parsed.media_type, kind);
            assert_eq!(
                parsed.digests().cloned().collect::<Vec<_>>(),
                [Digest::of("c"), Digest::of("l")]
            );
        }
        let index = json!({"schemaVersion": 2, "manifests": [descriptor("m")]});
        assert_eq!(read(&index, None).unwrap().media_type, MediaType::Index);
    }

    #[test]
    fn a_document_that_contradicts_itself_is_refused() {
        let mut both = image(None);
        both["manifests"] = json!([descriptor("m")]);
        let mut old = image(None);
        old["schemaVersion"] = 1.into();
        for (document, declared) in [
            (image(Some(OCI)), Some(DOCKER)),
            (image(Some(INDEX)), None),
            (image(None), Some(INDEX)),
            (image(None), Some(DOCKER)),
            (image(Some("text/plain")), None),
            (image(None), Some("text/plain")),
            (both.clone(), None),
            (both, Some(OCI)),
            (old, None),
            (json!({"schemaVersion": 2}), Some(OCI)),
            (json!({"schemaVersion": 2}), Some(INDEX)),
            (json!([]), None),
        ] {
            assert!(
                matches!(read(&document, declared), Err(Error::ManifestInvalid(_))),
                "{document}"
            );
        }
    }

    #[test]
    fn malformed_input_is_refused() {
        let twice = br#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#;
        let deep = "[".repeat(100_000);
        let negative = image(None).to_string().replace("\"size\":1", "\"size\":-1");
        let traversal = image(None).to_string().replace("sha256:", "sha256:../");
        let cases: [&[u8]; 7] = [
            b"",
            b"{",
            b"{}x",
            twice,
            deep.as_bytes(),
            negative.as_bytes(),
            traversal.as_bytes(),
        ];
        for case in cases {
            assert!(matches!(parse(case, None), Err(Error::ManifestInvalid(_))));
        }
    }
}
