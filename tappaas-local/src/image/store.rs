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
use tokio::sync::{RwLock, Semaphore};

use super::{
    documents::{DOCUMENT_MAX, ImageConfig, LayerRef, Manifest},
    layer, source,
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
    /// Pulls hold it shared, so that nothing is collected that was just found.
    collecting: RwLock<()>,
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

impl Images {
    /// Opens the images in a folder, which is created if it is missing. One process at a time.
    pub(crate) async fn open(folder: PathBuf, registry: Arc<dyn Registry>) -> Result<Self> {
        let images = Self {
            folder,
            registry,
            unpacking: Semaphore::new(UNPACKING_MAX),
            under_way: Mutex::default(),
            drafts: AtomicU64::new(0),
            collecting: RwLock::new(()),
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
        let _shared = self.collecting.read().await;
        let kept = match self.kept(&image.digest).await {
            Some(kept) => kept,
            None => self.describe(image).await?,
        };
        for layer in &kept.layers {
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

    /// Removes the images that are not `used`, and the layers that no image left has.
    pub(crate) async fn collect(&self, used: BTreeSet<Digest>) -> Result<()> {
        let _alone = self.collecting.write().await;
        let folder = self.folder.clone();
        blocking(move || collect(&folder, &used)).await
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

fn collect(folder: &Path, used: &BTreeSet<Digest>) -> Result<()> {
    let used: BTreeSet<&str> = used.iter().map(Digest::hex).collect();
    let mut layers = BTreeSet::new();
    for (name, path) in entries(&folder.join("images"))? {
        let kept = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        match kept {
            Some(kept) if used.contains(name.as_str()) => {
                layers.extend(
                    kept.layers
                        .into_iter()
                        .map(|layer| layer.digest.hex().to_owned()),
                );
            }
            _ => fs::remove_file(&path).map_err(disk("remove", &path))?,
        }
    }
    for (name, path) in entries(&folder.join("layers"))? {
        if !layers.contains(&name) {
            // Renamed first: a layer that is half removed must not look whole.
            let leaving = folder.join("drafts").join(format!("{name}.old"));
            fs::rename(&path, &leaving).map_err(disk("remove", &path))?;
            fs::remove_dir_all(&leaving).map_err(disk("remove", &leaving))?;
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
