use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::{
    Digest,
    backend::{
        InstanceId, InstanceState, InstanceStatus, ReleaseSet, Template, Unplaced, Workload,
        WorkloadStatus,
    },
};

/// A workload, or what is left of one.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// `None` once it was removed.
    pub(super) wanted: Option<(Workload, Digest)>,
    /// In order of age.
    pub(super) instances: Vec<Instance>,
    pub(super) unplaced: Vec<Unplaced>,
}

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) status: InstanceStatus,
    pub(super) template: Arc<Template>,
    /// What it wrote outside its volumes.
    pub(super) files: BTreeMap<PathBuf, Bytes>,
    /// Cancelled when it has to go.
    pub(super) stop: CancellationToken,
}

impl Instance {
    /// Tells it to stop.
    pub(super) fn retire(&mut self) {
        self.status.state = InstanceState::Stopping;
        self.status.ready = false;
        self.stop.cancel();
    }

    pub(super) fn retired(&self) -> bool {
        self.stop.is_cancelled()
    }
}

impl Entry {
    pub(super) fn status(&self) -> Option<WorkloadStatus> {
        let (wanted, content) = self.wanted.as_ref()?;
        let counts = wanted.releases.iter().map(|set| (set.release, set.count));
        let instances = self.instances.iter();
        Some(WorkloadStatus {
            generation: wanted.generation,
            content: content.clone(),
            counts: counts.collect(),
            instances: instances.map(|instance| instance.status.clone()).collect(),
            unplaced: self.unplaced.clone(),
            autoscaling: None,
            endpoints: BTreeMap::new(),
            drift: None,
        })
    }

    /// Tells instances to stop that are too many: of a release those named first, then unready ones, then the youngest.
    pub(super) fn retire_surplus(&mut self) {
        let releases: BTreeSet<u64> = self.instances.iter().map(|i| i.status.release).collect();
        for release in releases {
            let (count, retiring) = match self.sets().find(|set| set.release == release) {
                Some(set) => (set.count as usize, set.retiring.clone()),
                None => (0, BTreeSet::new()),
            };
            let surplus = self.staying(release).saturating_sub(count);
            let instances = self.instances.iter_mut();
            let staying = instances.filter(|i| i.status.release == release && !i.retired());
            let mut staying: Vec<_> = staying.rev().collect();
            let named = |id: &InstanceId| retiring.contains(id);
            staying.sort_by_key(|instance| (!named(&instance.status.id), instance.status.ready));
            staying.into_iter().take(surplus).for_each(Instance::retire);
        }
    }

    /// How many instances of which release are missing, and what they are made from.
    pub(super) fn missing(&self) -> Vec<(u64, u32, Arc<Template>)> {
        let missing = self.sets().map(|set| {
            let staying = u32::try_from(self.staying(set.release)).unwrap_or(u32::MAX);
            let template = Arc::new(set.template.clone());
            (set.release, set.count.saturating_sub(staying), template)
        });
        missing.filter(|(_, count, _)| *count > 0).collect()
    }

    fn sets(&self) -> impl Iterator<Item = &ReleaseSet> {
        self.wanted.iter().flat_map(|(wanted, _)| &wanted.releases)
    }

    fn staying(&self, release: u64) -> usize {
        let instances = self.instances.iter();
        instances
            .filter(|instance| instance.status.release == release && !instance.retired())
            .count()
    }
}
