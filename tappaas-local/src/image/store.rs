use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tappaas_core::{
    Digest, Error, Result,
    backend::{Content, Image, Registry},
};
use tokio::sync::Semaphore;

use super::{
    documents::{DOCUMENT_MAX, ImageConfig, LayerRef, Manifest},
    layer,
    pins::{Collection, Pins},
    source,
};

/// So many layers are unpacked at once.
const UNPACKING_MAX: usize = 2;

/// The images of this machine, below one folder.
///
/// `layers/<digest>` is a layer's content and appears whole or not at all; `images/<digest>` says which layers an image has. Whatever
/// else is there was cut short, and goes when the store is opened.
#[derive(Debug)]
pub(crate) struct Images {
    folder: PathBuf,
    registry: Arc<dyn Registry>,
    unpacking: Semaphore,
    /// Layers on their way: whoever needs the same one waits for it.
    under_way: Mutex<BTreeMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    /// Drafts ever made.
    drafts: AtomicU64,
    pins: Pins,
}

/// An image that is ready to be run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unpacked {
    /// The folders of its layers, the lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// What it says about how to run it.
    pub(crate) config: ImageConfig,
}

/// What is kept of an image.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    layers: Vec<LayerRef>,
    config: ImageConfig,
}

impl Kept {
    fn names(self) -> impl Iterator<Item = String> {
        let layers = self.layers.into_iter();
        layers.map(|layer| layer.digest.hex().to_owned())
    }
}

impl Images {
    /// Opens the images in a folder, which is created if it is missing. One process at a time.
    pub(crate) async fn open(folder: PathBuf, registry: Arc<dyn Registry>) -> Result<Self> {
        let images = Self {
            folder,
            registry,
            unpacking: Semaphore::new(UNPACKING_MAX),
            under_way: Mutex::default(),
            drafts: AtomicU64::new(0),
            pins: Pins::default(),
        };
        let folders = ["layers", "images", "drafts"].map(|name| images.folder.join(name));
        blocking(move || {
            let [.., drafts] = &folders;
            match fs::remove_dir_all(drafts) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(disk("remove", drafts)(error));
                }
                _ => {}
            }
            // Instances pass through, but nobody sees what there is.
            let mut closed = fs::DirBuilder::new();
            closed.recursive(true).mode(0o711);
            let create = |folder: &PathBuf| closed.create(folder).map_err(disk("create", folder));
            folders.iter().try_for_each(create)
        })
        .await?;
        Ok(images)
    }

    /// Fetches and unpacks whatever of an image is not there yet.
    ///
    /// # Errors
    /// `NotFound` if the registry does not have it; `Invalid` or `Unsupported` if it cannot be run here; `Exhausted` if it exceeds
    /// a bound; the registry's own.
    pub(crate) async fn pull(&self, image: &Image) -> Result<Unpacked> {
        let _pin = self.pins.pin(image.digest.hex());
        let mut pins = Vec::new();
        let kept = match self.kept(&image.digest).await {
            Some(kept) => kept,
            None => self.describe(image).await?,
        };
        for layer in &kept.layers {
            pins.push(self.pins.pin(layer.digest.hex()));
            self.fetch(image, layer).await?;
        }
        Ok(Unpacked {
            layers: kept
                .layers
                .iter()
                .map(|layer| self.layer(&layer.digest))
                .collect(),
            config: kept.config,
        })
    }

    /// Removes the images that are not `used`, and the layers that no image left has. What is pulled meanwhile stays, and need not
    /// wait. An image must be used before it is pulled.
    pub(crate) async fn collect(&self, used: impl FnOnce() -> BTreeSet<Digest>) -> Result<()> {
        let Some(collection) = self.pins.collect() else {
            return Ok(());
        };
        // From here on pulls are seen: what was pulled before is used already.
        let (folder, used) = (self.folder.clone(), used());
        blocking(move || collect(&folder, &used, &collection)).await
    }

    async fn kept(&self, digest: &Digest) -> Option<Kept> {
        let bytes = tokio::fs::read(self.description(digest)).await.ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Reads manifest and configuration, and keeps what they say.
    async fn describe(&self, image: &Image) -> Result<Kept> {
        let (config, layers) = self.manifest(image).await?;
        let config = self.document(image, &Content::Blob(config)).await?;
        let kept = Kept {
            layers,
            config: ImageConfig::parse(image, &config)?,
        };
        let json = serde_json::to_vec(&kept);
        let json = json.map_err(|error| {
            Error::internal("an image's description has no JSON form").with_source(error)
        })?;
        let (draft, file) = (self.draft(&image.digest), self.description(&image.digest));
        blocking(move || {
            fs::write(&draft, json).map_err(disk("write", &draft))?;
            fs::rename(&draft, &file).map_err(disk("create", &file))
        })
        .await?;
        Ok(kept)
    }

    async fn manifest(&self, image: &Image) -> Result<(Digest, Vec<LayerRef>)> {
        let mut digest = image.digest.clone();
        // An index leads to a manifest; one that leads to another index is refused.
        for _ in 0..2 {
            let bytes = self.document(image, &Content::Manifest(digest)).await?;
            match Manifest::parse(image, &bytes)? {
                Manifest::Image { config, layers } => return Ok((config, layers)),
                Manifest::Index(found) => digest = found,
            }
        }
        Err(Error::invalid(format!("{image} is an index of indexes")))
    }

    async fn document(&self, image: &Image, content: &Content) -> Result<Vec<u8>> {
        let mut stream = self.registry.pull(&image.repository, content).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend(chunk?);
            if bytes.len() > DOCUMENT_MAX {
                return Err(Error::exhausted(format!(
                    "{} of {image} exceeds {DOCUMENT_MAX} bytes",
                    content.digest()
                )));
            }
        }
        Ok(bytes)
    }

    async fn fetch(&self, image: &Image, layer: &LayerRef) -> Result<()> {
        let target = self.layer(&layer.digest);
        if target.exists() {
            return Ok(());
        }
        let turn = self.turn(&layer.digest);
        let _turn = turn.lock().await;
        if target.exists() {
            return Ok(());
        }
        let closed = |error| Error::internal("images are closed").with_source(error);
        let _permit = self.unpacking.acquire().await.map_err(closed)?;
        let stream = self
            .registry
            .pull(&image.repository, &Content::Blob(layer.digest.clone()))
            .await?;
        let (sender, mut chunks) = source::channel();
        let (draft, gzipped) = (self.draft(&layer.digest), layer.gzipped);
        let unpacking = blocking(move || {
            fs::create_dir(&draft).map_err(disk("create", &draft))?;
            let unpacked = layer::unpack(&mut chunks, gzipped, &draft).map_err(Error::from);
            // What the registry says explains what the unpacker saw.
            let finished = chunks
                .finish()
                .and(unpacked)
                .and_then(|()| publish(&draft, &target));
            finished.inspect_err(|_| drop(fs::remove_dir_all(&draft)))
        });
        let (unpacked, ()) = tokio::join!(unpacking, source::feed(stream, sender));
        unpacked
    }

    fn turn(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = under_way.get(digest).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        under_way.insert(digest.clone(), Arc::downgrade(&turn));
        turn
    }

    fn layer(&self, digest: &Digest) -> PathBuf {
        self.folder.join("layers").join(digest.hex())
    }

    fn description(&self, digest: &Digest) -> PathBuf {
        self.folder.join("images").join(digest.hex())
    }

    /// A name that nothing else has: who gave up on a pull may be writing still.
    fn draft(&self, digest: &Digest) -> PathBuf {
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        self.folder
            .join("drafts")
            .join(format!("{}.{number}", digest.hex()))
    }
}

/// Gives a finished layer its name, after its content is on disk: a power cut must not leave a layer of empty files.
fn publish(draft: &Path, target: &Path) -> Result<()> {
    let opened = File::open(draft).map_err(disk("open", draft))?;
    rustix::fs::syncfs(&opened).map_err(|error| disk("write", draft)(error.into()))?;
    match fs::rename(draft, target) {
        // Somebody who gave up on it in the meantime has finished it all the same.
        Err(_) if target.exists() => fs::remove_dir_all(draft).map_err(disk("remove", draft)),
        renamed => renamed.map_err(disk("create", target)),
    }
}

fn collect(folder: &Path, used: &BTreeSet<Digest>, collection: &Collection) -> Result<()> {
    let used: BTreeSet<&str> = used.iter().map(Digest::hex).collect();
    let mut layers = BTreeSet::new();
    for (name, path) in entries(&folder.join("images"))? {
        let kept = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        match kept {
            Some(kept) if used.contains(name.as_str()) => {
                layers.extend(kept.names());
            }
            kept => {
                let removal = || fs::remove_file(&path).map_err(disk("remove", &path));
                if !collection.unless_pinned(&name, removal)? {
                    layers.extend(kept.into_iter().flat_map(Kept::names));
                }
            }
        }
    }
    for (name, path) in entries(&folder.join("layers"))? {
        if !layers.contains(&name) {
            // Renamed first: a layer that is half removed must not look whole.
            let leaving = folder.join("drafts").join(format!("{name}.old"));
            let removal = || fs::rename(&path, &leaving).map_err(disk("remove", &path));
            if collection.unless_pinned(&name, removal)? {
                fs::remove_dir_all(&leaving).map_err(disk("remove", &leaving))?;
            }
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let listing = fs::read_dir(folder).map_err(disk("read", folder))?;
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.map_err(disk("read", folder))?;
        Ok((
            entry.file_name().to_string_lossy().into_owned(),
            entry.path(),
        ))
    };
    listing.map(entry).collect()
}

fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let message = format!("cannot {action} {}", path.display());
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::exhausted(message).with_source(error)
        }
        _ => Error::internal(message).with_source(error),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal("the work on an image was cut short").with_source(error))?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use bytes::Bytes;
    use futures::stream::{self, BoxStream};
    use serde_json::json;
    use tappaas_core::{
        backend::{Reference, Repository, Tag},
        memory,
    };
    use tokio::{sync::Notify, time::timeout};

    use super::*;

    /// A registry whose blob `slow` does not come before it is let go.
    #[derive(Debug)]
    struct Slow {
        inner: memory::Registry,
        slow: Digest,
        asked: Arc<Notify>,
        go: Arc<Notify>,
    }

    #[async_trait]
    impl Registry for Slow {
        async fn resolve(&self, of: &Repository, by: &Reference) -> Result<Option<Digest>> {
            self.inner.resolve(of, by).await
        }

        async fn pull(
            &self,
            of: &Repository,
            content: &Content,
        ) -> Result<BoxStream<'static, Result<Bytes>>> {
            if *content.digest() == self.slow {
                self.asked.notify_one();
                self.go.notified().await;
            }
            self.inner.pull(of, content).await
        }

        async fn push(
            &self,
            of: &Repository,
            content: &Content,
            bytes: BoxStream<'static, Result<Bytes>>,
        ) -> Result<()> {
            self.inner.push(of, content, bytes).await
        }

        async fn tag(&self, of: &Repository, digest: &Digest, tag: &Tag) -> Result<()> {
            self.inner.tag(of, digest, tag).await
        }

        async fn list(&self, of: &Repository) -> Result<Vec<Tag>> {
            self.inner.list(of).await
        }

        async fn delete(&self, of: &Repository, reference: &Reference) -> Result<()> {
            self.inner.delete(of, reference).await
        }
    }

    /// A layer with one empty file.
    fn layer(name: &str) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(0);
        archive.append_data(&mut header, name, &[][..]).unwrap();
        archive.into_inner().unwrap()
    }

    async fn push(registry: &memory::Registry, layers: &[Vec<u8>]) -> Image {
        let config = json!({"architecture": "amd64", "os": "linux", "config": {}}).to_string();
        let described = |bytes: &[u8], kind: &str| {
            let kind = format!("application/vnd.oci.image.{kind}");
            json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()})
        };
        let of_layers: Vec<_> = layers
            .iter()
            .map(|layer| described(layer, "layer.v1.tar"))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": described(config.as_bytes(), "config.v1+json"),
            "layers": of_layers,
        });
        let manifest = manifest.to_string();
        let image = Image {
            repository: "programs".parse().unwrap(),
            digest: Digest::of(&manifest),
        };
        let blobs = layers.iter().cloned().chain([config.into_bytes()]);
        let contents = blobs.map(|blob| (Content::Blob(Digest::of(&blob)), blob));
        let manifest = (
            Content::Manifest(image.digest.clone()),
            manifest.into_bytes(),
        );
        for (content, bytes) in contents.chain([manifest]) {
            let bytes = stream::iter([Ok(bytes.into())]).boxed();
            registry
                .push(&image.repository, &content, bytes)
                .await
                .unwrap();
        }
        image
    }

    #[tokio::test]
    async fn a_slow_pull_delays_neither_a_collection_nor_another_pull_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let inner = memory::Registry::new();
        let (base, large) = (layer("base"), layer("large"));
        let old = push(&inner, std::slice::from_ref(&base)).await;
        let slow = push(&inner, &[base, large.clone()]).await;
        let other = push(&inner, &[layer("other")]).await;
        let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let registry = Slow {
            inner,
            slow: Digest::of(&large),
            asked: Arc::clone(&asked),
            go: Arc::clone(&go),
        };
        let images = Images::open(folder.path().join("images"), Arc::new(registry)).await;
        let images = Arc::new(images.unwrap());
        images.pull(&old).await.unwrap();
        let pulling = tokio::spawn({
            let images = Arc::clone(&images);
            async move { images.pull(&slow).await }
        });
        asked.notified().await;
        let soon = Duration::from_secs(10);
        // Nobody uses the old image any more, but the slow pull has found its layer already.
        timeout(soon, images.collect(BTreeSet::new))
            .await
            .unwrap()
            .unwrap();
        assert!(!images.description(&old.digest).exists());
        timeout(soon, images.pull(&other)).await.unwrap().unwrap();
        go.notify_one();
        let pulled = pulling.await.unwrap().unwrap();
        assert!(
            pulled.layers.iter().all(|layer| layer.is_dir()),
            "{pulled:?}"
        );
        images.collect(BTreeSet::new).await.unwrap();
        assert!(
            pulled.layers.iter().all(|layer| !layer.exists()),
            "{pulled:?}"
        );
    }
}
