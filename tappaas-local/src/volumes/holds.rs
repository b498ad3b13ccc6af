use std::collections::{BTreeMap, BTreeSet};

use tappaas_core::backend::{InstanceId, Mount, VolumeId};

/// Which instances have which volumes: any number for reading, one for writing.
#[derive(Debug, Default)]
pub(super) struct Holds(BTreeMap<VolumeId, Hold>);

#[derive(Debug, Default)]
struct Hold {
    writer: Option<InstanceId>,
    readers: BTreeSet<InstanceId>,
}

impl Holds {
    /// Takes all or none.
    pub(super) fn take(&mut self, instance: &InstanceId, mounts: &[Mount]) -> Result<(), String> {
        for mount in mounts.iter().filter(|mount| !mount.read_only) {
            let writer = self
                .0
                .get(&mount.volume)
                .and_then(|hold| hold.writer.as_ref());
            if let Some(writer) = writer.filter(|writer| *writer != instance) {
                return Err(format!("volume {} is held by {writer}", mount.volume));
            }
        }
        for mount in mounts {
            let hold = self.0.entry(mount.volume.clone()).or_default();
            match mount.read_only {
                true => drop(hold.readers.insert(instance.clone())),
                false => hold.writer = Some(instance.clone()),
            }
        }
        Ok(())
    }

    pub(super) fn give_back(&mut self, instance: &InstanceId) {
        self.0.retain(|_, hold| {
            hold.writer.take_if(|writer| writer == instance);
            hold.readers.remove(instance);
            hold.writer.is_some() || !hold.readers.is_empty()
        });
    }

    pub(super) fn holder(&self, volume: &VolumeId) -> Option<&InstanceId> {
        let hold = self.0.get(volume)?;
        hold.writer.as_ref().or_else(|| hold.readers.first())
    }
}
