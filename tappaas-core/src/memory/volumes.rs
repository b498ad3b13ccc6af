use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::lock::lock;
use crate::{
    Error, Name, Result,
    backend::{self, InstanceId, Mount, Volume, VolumeId, VolumeStatus},
};

type Files = BTreeMap<PathBuf, Bytes>;

/// Volumes in memory. Clones are the same volumes; a [`Scheduler`](super::Scheduler) gets one to mount them.
#[derive(Clone, Debug, Default)]
pub struct Volumes(Arc<Mutex<BTreeMap<VolumeId, Kept>>>);

#[derive(Debug, Default)]
struct Kept {
    size: Option<u64>,
    files: Files,
    snapshots: BTreeMap<Name, Files>,
    writer: Option<InstanceId>,
    readers: BTreeSet<InstanceId>,
}

impl Volumes {
    /// Starts without any volume.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file of a volume; the path is relative to its root.
    pub fn read(&self, id: &VolumeId, path: &Path) -> Option<Bytes> {
        lock(&self.0).get(id)?.files.get(path).cloned()
    }

    /// Reads a file of a snapshot.
    pub fn read_snapshot(&self, id: &VolumeId, name: &Name, path: &Path) -> Option<Bytes> {
        let volumes = lock(&self.0);
        volumes.get(id)?.snapshots.get(name)?.get(path).cloned()
    }

    /// Writes a file of a volume, or with `None` removes it. A volume that is gone swallows it.
    pub(super) fn write(&self, id: &VolumeId, path: &Path, content: Option<Bytes>) {
        let mut volumes = lock(&self.0);
        let Some(kept) = volumes.get_mut(id) else {
            return;
        };
        match content {
            Some(content) => kept.files.insert(path.to_owned(), content),
            None => kept.files.remove(path),
        };
    }

    /// Mounts all of an instance's volumes or none. Mounting again what it holds changes nothing.
    pub(super) fn hold(&self, instance: &InstanceId, mounts: &[Mount]) -> Result<(), String> {
        let mut volumes = lock(&self.0);
        for mount in mounts {
            let Some(kept) = volumes.get(&mount.volume) else {
                return Err(format!("volume {} does not exist", mount.volume));
            };
            match &kept.writer {
                Some(writer) if !mount.read_only && writer != instance => {
                    return Err(format!("volume {} is held by {writer}", mount.volume));
                }
                _ => {}
            }
        }
        for mount in mounts {
            let kept = volumes.entry(mount.volume.clone()).or_default();
            if mount.read_only {
                kept.readers.insert(instance.clone());
            } else {
                kept.writer = Some(instance.clone());
            }
        }
        Ok(())
    }

    pub(super) fn release(&self, instance: &InstanceId) {
        for kept in lock(&self.0).values_mut() {
            kept.writer.take_if(|writer| writer == instance);
            kept.readers.remove(instance);
        }
    }
}

#[async_trait]
impl backend::Volumes for Volumes {
    async fn apply(&self, volume: &Volume) -> Result<()> {
        let mut volumes = lock(&self.0);
        let kept = volumes.entry(volume.id.clone()).or_default();
        if let (Some(new), Some(old)) = (volume.size, kept.size)
            && new < old
        {
            return Err(Error::invalid(format!(
                "volume {} cannot become smaller; copy what is in it to a new one",
                volume.id
            )));
        }
        kept.size = volume.size.or(kept.size);
        Ok(())
    }

    async fn observe(&self, id: &VolumeId) -> Result<Option<VolumeStatus>> {
        Ok(lock(&self.0).get(id).map(|kept| VolumeStatus {
            used: Some(kept.files.values().map(|file| file.len() as u64).sum()),
            notes: match kept.size {
                Some(_) => vec!["the size is not enforced".to_owned()],
                None => Vec::new(),
            },
        }))
    }

    async fn list(&self) -> Result<Vec<VolumeId>> {
        Ok(lock(&self.0).keys().cloned().collect())
    }

    async fn remove(&self, id: &VolumeId) -> Result<()> {
        let mut volumes = lock(&self.0);
        let holder = volumes
            .get(id)
            .and_then(|kept| kept.writer.as_ref().or_else(|| kept.readers.first()));
        if let Some(holder) = holder {
            return Err(Error::conflict(format!(
                "volume {id} is held by {holder}; stop it first"
            )));
        }
        volumes.remove(id);
        Ok(())
    }

    async fn snapshot(&self, id: &VolumeId, name: &Name) -> Result<()> {
        let mut volumes = lock(&self.0);
        let kept = volumes
            .get_mut(id)
            .ok_or_else(|| Error::not_found(format!("volume {id} does not exist")))?;
        if kept.snapshots.contains_key(name) {
            return Err(Error::already_exists(format!(
                "volume {id} has a snapshot {name} already"
            )));
        }
        kept.snapshots.insert(name.clone(), kept.files.clone());
        Ok(())
    }
}
