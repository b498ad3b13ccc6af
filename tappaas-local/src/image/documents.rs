use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tappaas_core::{Digest, Error, Result, backend::Image};

use super::labels;
use crate::sandbox::Root;

/// The largest manifest or configuration, in bytes.
pub(super) const DOCUMENT_MAX: usize = 4 << 20;

const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const GZIPPED: [&str; 2] = [
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];
const PLAIN: [&str; 2] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
];

/// An image manifest or index (OCI image-spec 1.1), as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// What a manifest leads to.
#[derive(Debug)]
pub(super) enum Manifest {
    /// An image for this machine.
    Image {
        config: Digest,
        layers: Vec<LayerRef>,
    },
    /// An index; the manifest in it that is for this machine.
    Index(Digest),
}

/// A layer of an image, the lowest first.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct LayerRef {
    pub(super) digest: Digest,
    pub(super) gzipped: bool,
}

impl Manifest {
    pub(super) fn parse(image: &Image, bytes: &[u8]) -> Result<Self> {
        let document: Document = parse(image, "manifest", bytes)?;
        let is_index = document
            .media_type
            .as_deref()
            .is_some_and(|kind| INDEXES.contains(&kind));
        if is_index || !document.manifests.is_empty() {
            return own_platform(image, document.manifests).map(Self::Index);
        }
        let Some(config) = document.config else {
            return Err(Error::invalid(format!(
                "{image} is not an image: its manifest has no configuration"
            )));
        };
        if document.layers.len() > Root::LAYERS_MAX {
            return Err(Error::invalid(format!(
                "{image} has more than {} layers",
                Root::LAYERS_MAX
            )));
        }
        let layers = document
            .layers
            .into_iter()
            .map(|layer| LayerRef::of(image, layer));
        Ok(Self::Image {
            config: config.digest,
            layers: layers.collect::<Result<_>>()?,
        })
    }
}

fn own_platform(image: &Image, manifests: Vec<Descriptor>) -> Result<Digest> {
    let here = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let fits = |platform: &Platform| platform.os == "linux" && platform.architecture == here;
    let found = manifests
        .into_iter()
        .find(|manifest| manifest.platform.as_ref().is_some_and(fits));
    match found {
        Some(manifest) => Ok(manifest.digest),
        None => Err(Error::unsupported(format!(
            "{image} has no variant for linux/{here}, which this machine is"
        ))),
    }
}

impl LayerRef {
    fn of(image: &Image, layer: Descriptor) -> Result<Self> {
        let kind = layer.media_type.as_str();
        let gzipped = GZIPPED.contains(&kind);
        if !gzipped && !PLAIN.contains(&kind) {
            return Err(Error::unsupported(format!(
                "a layer of {image} is of the type `{}`; only tar and gzip-compressed tar can be unpacked",
                kind.escape_default()
            )));
        }
        Ok(Self {
            digest: layer.digest,
            gzipped,
        })
    }
}

/// What an image says about how to run it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageConfig {
    /// The program that `Cmd` is given to.
    #[serde(deserialize_with = "nullable")]
    pub(crate) entrypoint: Vec<String>,
    /// What to run.
    #[serde(deserialize_with = "nullable")]
    pub(crate) cmd: Vec<String>,
    /// Environment variables, `NAME=value`.
    #[serde(deserialize_with = "nullable")]
    pub(crate) env: Vec<String>,
    /// Where to start it; empty: at the root.
    pub(crate) working_dir: PathBuf,
    /// Names and values that others gave a meaning.
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
}

impl ImageConfig {
    pub(super) fn parse(image: &Image, bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(default, deserialize_with = "nullable")]
            config: ImageConfig,
        }
        let document: Document = parse(image, "configuration", bytes)?;
        Ok(document.config)
    }

    /// The image runs on this machine's userland and nowhere else.
    pub(crate) fn needs_host_stack(&self) -> bool {
        self.labels
            .get(labels::STACK)
            .is_some_and(|stack| stack == labels::HOST)
    }
}

/// Other tools write `null` for what is empty.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn parse<T: DeserializeOwned>(image: &Image, what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::invalid(format!("the {what} of {image} cannot be read")).with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image {
            repository: "app".parse().unwrap(),
            digest: Digest::of("image"),
        }
    }

    #[test]
    fn an_index_leads_to_the_variant_for_this_machine() {
        let json = format!(
            r#"{{"manifests":[{{"digest":"{}","platform":{{"architecture":"s390x","os":"linux"}}}},
                {{"digest":"{}","platform":{{"architecture":"amd64","os":"linux"}}}},
                {{"digest":"{}","platform":{{"architecture":"arm64","os":"linux"}}}}]}}"#,
            Digest::of("z"),
            Digest::of("amd64"),
            Digest::of("arm64"),
        );
        let Manifest::Index(found) = Manifest::parse(&image(), json.as_bytes()).unwrap() else {
            panic!("not an index");
        };
        assert!([Digest::of("amd64"), Digest::of("arm64")].contains(&found));
    }

    #[test]
    fn a_layer_that_cannot_be_unpacked_is_refused_by_its_type() {
        let json = format!(
            r#"{{"config":{{"digest":"{0}"}},"layers":[{{"digest":"{0}","mediaType":"application/x-unknown"}}]}}"#,
            Digest::of("x")
        );
        let error = Manifest::parse(&image(), json.as_bytes()).unwrap_err();
        assert!(error.message().contains("application/x-unknown"), "{error}");
    }

    #[test]
    fn a_configuration_full_of_nulls_is_an_empty_one() {
        let json = br#"{"config":{"Cmd":null,"Env":null,"Labels":null,"Entrypoint":null}}"#;
        assert_eq!(
            ImageConfig::parse(&image(), json).unwrap(),
            ImageConfig::default()
        );
        assert_eq!(
            ImageConfig::parse(&image(), br#"{"config":null}"#).unwrap(),
            ImageConfig::default()
        );
    }
}
