use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tappaas_core::{
    Digest, Error, Name, Result,
    backend::{Content, Image, Reference, Registry, Repository},
    model::Command,
};
use tokio_util::io::ReaderStream;

use crate::{archive::Packed, fault::Context as _, image::labels};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// The label with the processes, as JSON.
const PROCESSES: &str = "dev.tappaas.processes";
/// The largest manifest or configuration, in bytes.
const DOCUMENT_MAX: usize = 4 << 20;

/// An image of one layer.
#[derive(Debug)]
pub(super) struct Slug<'a> {
    pub(super) layer: &'a Packed,
    /// Where the layer's bytes are.
    pub(super) file: &'a Path,
    pub(super) processes: &'a BTreeMap<Name, Command>,
    pub(super) environment: BTreeMap<&'a str, String>,
    /// The name and fingerprint of the stack that the image is to be laid over.
    pub(super) stack: Option<(&'a str, &'a str)>,
    /// It is a program by itself.
    pub(super) alone: bool,
}

impl Slug<'_> {
    /// Pushes the image, whole. The same slug is the same image, whenever it is pushed.
    pub(super) async fn push(
        &self,
        registry: &dyn Registry,
        repository: &Repository,
    ) -> Result<Digest> {
        let config = self.config().to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": Digest::of(&config), "size": config.len() },
            "layers": [{ "mediaType": LAYER, "digest": self.layer.digest, "size": self.layer.size }],
        });
        let manifest = manifest.to_string();
        let file = tokio::fs::File::open(self.file)
            .await
            .context(|| format!("open {}", self.file.display()))?;
        let layer = ReaderStream::with_capacity(file, 256 << 10).map_err(|error| {
            Error::internal("cannot read the layer that was built").with_source(error)
        });
        let layer_content = Content::Blob(self.layer.digest.clone());
        registry
            .push(repository, &layer_content, layer.boxed())
            .await?;
        registry
            .push(
                repository,
                &Content::Blob(Digest::of(&config)),
                whole(config),
            )
            .await?;
        let digest = Digest::of(&manifest);
        registry
            .push(
                repository,
                &Content::Manifest(digest.clone()),
                whole(manifest),
            )
            .await?;
        Ok(digest)
    }

    fn config(&self) -> Value {
        let processes =
            serde_json::to_string(self.processes).expect("processes have string keys only");
        let mut marks = BTreeMap::from([(PROCESSES, processes)]);
        if let Some((name, fingerprint)) = self.stack {
            marks.insert(labels::STACK, name.to_owned());
            marks.insert(labels::STACK_FINGERPRINT, fingerprint.to_owned());
        }
        let environment: Vec<_> = self
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut run = json!({ "Env": environment, "Labels": marks, "WorkingDir": "/app" });
        let web = self.processes.iter().find(|(name, _)| **name == "web");
        if let Some((_, web)) = web {
            let argv = web.argv();
            // A program by itself is given what a container is started with; of an application that replaces it.
            let program = usize::from(self.alone).min(argv.len());
            let (entrypoint, cmd) = argv.split_at(program);
            run["Cmd"] = json!(cmd);
            if self.alone {
                run["Entrypoint"] = json!(entrypoint);
            }
        }
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": run,
            "rootfs": { "type": "layers", "diff_ids": [self.layer.diff] },
        })
    }
}

/// Copies an image to another repository; of an index, the image for this machine. Returns what the image is there.
pub(super) async fn copy(registry: &dyn Registry, from: &Image, to: &Repository) -> Result<Image> {
    let mut digest = from.digest.clone();
    let mut manifest = document(
        registry,
        &from.repository,
        &Content::Manifest(digest.clone()),
    )
    .await?;
    if let Some(own) = own_platform(from, &manifest)? {
        digest = own;
        manifest = document(
            registry,
            &from.repository,
            &Content::Manifest(digest.clone()),
        )
        .await?;
    }
    let image = Image {
        repository: to.clone(),
        digest,
    };
    let reference = Reference::Digest(image.digest.clone());
    if registry.resolve(to, &reference).await?.is_some() {
        return Ok(image);
    }
    for blob in blobs(from, &manifest)? {
        let bytes = registry.pull(&from.repository, &blob).await?;
        registry.push(to, &blob, bytes).await?;
    }
    let content = Content::Manifest(image.digest.clone());
    registry
        .push(to, &content, stream::iter([Ok(manifest)]).boxed())
        .await?;
    Ok(image)
}

/// In an index, the manifest for this machine.
fn own_platform(image: &Image, manifest: &Bytes) -> Result<Option<Digest>> {
    let parsed = parse(image, manifest)?;
    let is_index = parsed["mediaType"]
        .as_str()
        .is_some_and(|kind| INDEXES.contains(&kind));
    if !is_index && parsed["manifests"].is_null() {
        return Ok(None);
    }
    let here = architecture();
    let manifests = parsed["manifests"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let fits = |entry: &&Value| {
        entry["platform"]["os"] == "linux" && entry["platform"]["architecture"] == here
    };
    match manifests.iter().find(fits) {
        Some(entry) => digest(image, entry).map(Some),
        None => Err(Error::unsupported(format!(
            "{image} has no variant for linux/{here}, which this machine is"
        ))),
    }
}

/// The configuration and the layers.
fn blobs(image: &Image, manifest: &Bytes) -> Result<Vec<Content>> {
    let parsed = parse(image, manifest)?;
    let layers = parsed["layers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let named = [&parsed["config"]].into_iter().chain(layers);
    named
        .map(|entry| digest(image, entry).map(Content::Blob))
        .collect()
}

fn digest(image: &Image, descriptor: &Value) -> Result<Digest> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    digest.parse().map_err(|error: Error| {
        Error::invalid(format!("cannot read the manifest of {image}")).with_source(error)
    })
}

fn parse(image: &Image, manifest: &Bytes) -> Result<Value> {
    serde_json::from_slice(manifest).map_err(|error| {
        Error::invalid(format!("cannot read the manifest of {image}")).with_source(error)
    })
}

async fn document(
    registry: &dyn Registry,
    repository: &Repository,
    content: &Content,
) -> Result<Bytes> {
    let mut chunks = registry.pull(repository, content).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.try_next().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > DOCUMENT_MAX {
            return Err(Error::invalid(format!(
                "{} in {repository} is larger than a manifest may be",
                content.digest()
            )));
        }
    }
    Ok(bytes.into())
}

fn whole(text: String) -> BoxStream<'static, Result<Bytes>> {
    stream::iter([Ok(Bytes::from(text))]).boxed()
}

/// This machine's architecture, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
