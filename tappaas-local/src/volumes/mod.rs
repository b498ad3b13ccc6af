//! Volumes as folders of this machine.
//!
//! `<application>/<volume>/` holds `volume.json`, which says whose it is, `data`, which instances see, and `snapshots/<name>`.

mod copy;
mod holds;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, chown},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tappaas_core::{
    Chain, Error, Name, Result,
    backend::{self, InstanceId, Mount, Volume, VolumeId, VolumeStatus},
    model::ApplicationKey,
};

use self::holds::Holds;

/// The volumes of one installation, shared with the scheduler that mounts them: see [`Scheduler::volumes`](crate::Scheduler::volumes).
///
/// Sizes are kept and shown, but not enforced. Snapshots share their blocks with the volume where the file system can, and are whole
/// copies elsewhere; they are taken file by file, so an application that must not be caught in the middle of a change is stopped first.
#[derive(Clone, Debug)]
pub struct Volumes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    holds: Mutex<Holds>,
    /// Changes of folders happen one after another.
    changing: tokio::sync::Mutex<()>,
}

/// What is kept of a volume beside its content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    id: VolumeId,
    size: Option<u64>,
}

const ABOUT: &str = "volume.json";
const DATA: &str = "data";
const SNAPSHOTS: &str = "snapshots";
/// Folders with this prefix are being made or removed. No name starts so.
const DRAFT: &str = ".";

impl Volumes {
    /// Opens the volumes in a folder, which is created if it is missing.
    pub(crate) async fn open(folder: PathBuf) -> Result<Self> {
        let made = folder.clone();
        blocking(move || {
            let created = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(&made);
            created.map_err(disk("create", &made))?;
            for application in folders(&made)? {
                for (_, path) in entries(&application)?
                    .into_iter()
                    .filter(|(name, _)| name.starts_with(DRAFT))
                {
                    fs::remove_dir_all(&path).map_err(disk("remove", &path))?;
                }
            }
            Ok(())
        })
        .await?;
        Ok(Self(Arc::new(Shared {
            folder,
            holds: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        })))
    }

    /// Takes all of an instance's mounts, or says which one cannot be had now. Taking again what it has changes nothing.
    pub(crate) fn hold(&self, instance: &InstanceId, mounts: &[Mount]) -> Result<(), String> {
        let mut holds = self.holds();
        for mount in mounts {
            if !self.of(&mount.volume).join(ABOUT).is_file() {
                return Err(format!("volume {} does not exist", mount.volume));
            }
        }
        holds.take(instance, mounts)
    }

    /// Gives back whatever an instance has.
    pub(crate) fn release(&self, instance: &InstanceId) {
        self.holds().give_back(instance);
    }

    /// The folder that is mounted for a volume, made accessible to the user its processes run as; `None`: this process's own.
    pub(crate) fn mountable(&self, id: &VolumeId, user: Option<u32>) -> Result<PathBuf> {
        let data = self.of(id).join(DATA);
        if let Some(user) = user {
            chown(&data, Some(user), Some(user)).map_err(disk("give away", &data))?;
        }
        Ok(data)
    }

    /// Says whether an application has any volume.
    pub(crate) fn any_of(&self, application: &ApplicationKey) -> Result<bool> {
        let folder = self.0.folder.join(application.label());
        Ok(folder.exists() && !entries(&folder)?.is_empty())
    }

    fn of(&self, id: &VolumeId) -> PathBuf {
        self.0
            .folder
            .join(id.application.label())
            .join(id.name.as_str())
    }

    fn holds(&self) -> std::sync::MutexGuard<'_, Holds> {
        self.0.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn kept(&self, id: &VolumeId) -> Result<Option<Kept>> {
        let about = self.of(id).join(ABOUT);
        blocking(move || read(&about)).await
    }
}

#[async_trait]
impl backend::Volumes for Volumes {
    async fn apply(&self, volume: &Volume) -> Result<()> {
        let _alone = self.0.changing.lock().await;
        let folder = self.of(&volume.id);
        let kept = self.kept(&volume.id).await?;
        if let Some(kept) = &kept
            && let (Some(new), Some(old)) = (volume.size, kept.size)
            && new < old
        {
            return Err(Error::invalid(format!(
                "volume {} cannot become smaller; copy what is in it to a new one",
                volume.id
            )));
        }
        let new = Kept {
            id: volume.id.clone(),
            size: volume.size.or_else(|| kept.as_ref()?.size),
        };
        blocking(move || match kept {
            Some(kept) if kept.size == new.size => Ok(()),
            Some(_) => write(&folder, &new),
            None => create(&folder, &new),
        })
        .await
    }

    async fn observe(&self, id: &VolumeId) -> Result<Option<VolumeStatus>> {
        let Some(kept) = self.kept(id).await? else {
            return Ok(None);
        };
        let data = self.of(id).join(DATA);
        let used = blocking(move || Ok(copy::size(&data))).await?;
        let mut notes = Vec::new();
        if kept.size.is_some() {
            notes.push("the size is not enforced".to_owned());
        }
        if used.is_none() {
            notes.push("there are too many files to count them".to_owned());
        }
        Ok(Some(VolumeStatus { used, notes }))
    }

    async fn list(&self) -> Result<Vec<VolumeId>> {
        let folder = self.0.folder.clone();
        blocking(move || {
            // What cannot be read of one volume is no news about the others: it is left alone.
            let unread = |path: &Path, error: Error| {
                tracing::warn!(path = %path.display(), error = %Chain(&error), "cannot read of a volume");
            };
            let mut found = Vec::new();
            for application in folders(&folder)? {
                let volumes = folders(&application).unwrap_or_else(|error| {
                    unread(&application, error);
                    Vec::new()
                });
                for volume in volumes {
                    match read(&volume.join(ABOUT)) {
                        Ok(kept) => found.extend(kept.map(|kept| kept.id)),
                        Err(error) => unread(&volume, error),
                    }
                }
            }
            found.sort_unstable();
            Ok(found)
        })
        .await
    }

    async fn remove(&self, id: &VolumeId) -> Result<()> {
        let _alone = self.0.changing.lock().await;
        let folder = self.of(id);
        let leaving = {
            // Whoever mounts looks for the volume while it has the same lock.
            let holds = self.holds();
            if let Some(holder) = holds.holder(id) {
                return Err(Error::conflict(format!(
                    "volume {id} is held by {holder}; stop it first"
                )));
            }
            let leaving = folder.with_file_name(format!("{DRAFT}{}", id.name));
            fs::remove_dir_all(&leaving).ok();
            match fs::rename(&folder, &leaving) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                renamed => renamed.map_err(disk("remove", &folder))?,
            }
            leaving
        };
        blocking(move || {
            fs::remove_dir_all(&leaving).map_err(disk("remove", &leaving))?;
            // The application's folder goes with its last volume.
            leaving.parent().map(fs::remove_dir);
            Ok(())
        })
        .await
    }

    async fn snapshot(&self, id: &VolumeId, name: &Name) -> Result<()> {
        let _alone = self.0.changing.lock().await;
        if self.kept(id).await?.is_none() {
            return Err(Error::not_found(format!("volume {id} does not exist")));
        }
        let folder = self.of(id);
        let (target, draft) = (
            folder.join(SNAPSHOTS).join(name.as_str()),
            folder.join(SNAPSHOTS).join(format!("{DRAFT}{name}")),
        );
        if target.exists() {
            return Err(Error::already_exists(format!(
                "volume {id} has a snapshot {name} already"
            )));
        }
        blocking(move || {
            fs::remove_dir_all(&draft).ok();
            fs::create_dir_all(&draft).map_err(disk("create", &draft))?;
            let copied =
                copy::tree(&folder.join(DATA), &draft).and_then(|()| publish(&draft, &target));
            copied.inspect_err(|_| drop(fs::remove_dir_all(&draft)))
        })
        .await
    }
}

/// Makes a volume aside and puts it in place whole.
fn create(folder: &Path, kept: &Kept) -> Result<()> {
    let draft = folder.with_file_name(format!("{DRAFT}{}", kept.id.name));
    fs::remove_dir_all(&draft).ok();
    let made = |path: &Path, mode| {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path);
        made.map_err(disk("create", path))
    };
    // Nobody but the volume's user and root passes `data`; the folders above only lead there.
    made(&draft, 0o711)?;
    made(&draft.join(DATA), 0o700)?;
    write(&draft, kept)?;
    publish(&draft, folder)
}

fn write(folder: &Path, kept: &Kept) -> Result<()> {
    let (file, draft) = (folder.join(ABOUT), folder.join("volume.json.new"));
    let json = serde_json::to_vec(kept);
    let json =
        json.map_err(|error| Error::internal("a volume has no JSON form").with_source(error))?;
    let written = fs::write(&draft, json).and_then(|()| fs::File::open(&draft)?.sync_all());
    written.map_err(disk("write", &draft))?;
    publish(&draft, &file)
}

fn read(about: &Path) -> Result<Option<Kept>> {
    match fs::read(about) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Error::internal(format!("{} cannot be read", about.display())).with_source(error)
        }),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(disk("read", about)(error)),
    }
}

/// Renames, once everything below is on disk.
fn publish(draft: &Path, target: &Path) -> Result<()> {
    let opened = fs::File::open(draft).map_err(disk("open", draft))?;
    rustix::fs::syncfs(&opened).map_err(|error| disk("write", draft)(error.into()))?;
    fs::rename(draft, target).map_err(disk("create", target))?;
    let above = target.parent().unwrap_or(target);
    fs::File::open(above)
        .and_then(|folder| folder.sync_all())
        .map_err(disk("write", above))
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let found = entries(folder)?.into_iter();
    Ok(found
        .filter(|(name, path)| !name.starts_with(DRAFT) && path.is_dir())
        .map(|(_, path)| path)
        .collect())
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
    done.map_err(|error| Error::internal("the work on a volume was cut short").with_source(error))?
}

#[cfg(test)]
mod tests {
    use backend::Volumes as _;

    use super::*;

    fn volume(name: &str) -> Volume {
        Volume {
            id: VolumeId {
                application: "t/p/e/app".parse().unwrap(),
                name: Name::new(name).unwrap(),
            },
            size: None,
        }
    }

    #[tokio::test]
    async fn a_volume_that_cannot_be_read_hides_no_other_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(folder.path().to_owned()).await.unwrap();
        for name in ["cache", "data"] {
            volumes.apply(&volume(name)).await.unwrap();
        }
        let damaged = volumes.of(&volume("cache").id);
        fs::write(damaged.join(ABOUT), "{").unwrap();
        assert_eq!(volumes.list().await.unwrap(), [volume("data").id]);
        assert!(damaged.join(DATA).is_dir());
        assert!(volumes.any_of(&volume("data").id.application).unwrap());
        assert!(!volumes.any_of(&"t/p/e/other".parse().unwrap()).unwrap());
    }
}
