//! What is wanted of each workload and what there is of it, and what follows from the difference. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tappaas_core::{
    Digest,
    backend::{
        InstanceState, InstanceStatus, ReleaseSet, Template, Unplaced, Workload, WorkloadId,
        WorkloadStatus,
    },
};
use tokio_util::sync::CancellationToken;

use super::about::About;

/// All workloads of this machine.
#[derive(Debug, Default)]
pub(super) struct Table(pub(super) BTreeMap<WorkloadId, Entry>);

/// A workload, or what is left of one.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// `None` once it was removed.
    pub(super) wanted: Option<(Workload, Digest)>,
    /// What is wanted was applied and cannot be read: what there is stays as it is.
    pub(super) unread: bool,
    /// In order of age.
    pub(super) instances: Vec<Seat>,
    pub(super) unplaced: Vec<Unplaced>,
    /// Instances that are over, of which the logs are kept; the oldest first.
    pub(super) ended: VecDeque<About>,
}

/// An instance.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) about: About,
    pub(super) status: InstanceStatus,
    /// Cancelled when it has to go.
    pub(super) stop: CancellationToken,
    /// It has lost its supervisor, and goes once another one serves in its place.
    pub(super) lost: bool,
    /// Where its processes are reached, once there are any.
    pub(super) running: Option<crate::Instance>,
}

impl Table {
    /// Tells every instance to stop that is too many. What was removed and has nothing left is forgotten, and returned.
    pub(super) fn retire(&mut self) -> Vec<(WorkloadId, Entry)> {
        for entry in self.0.values_mut() {
            entry.retire();
        }
        let emptied =
            |entry: &Entry| entry.wanted.is_none() && !entry.unread && entry.instances.is_empty();
        self.0.extract_if(.., |_, entry| emptied(entry)).collect()
    }

    pub(super) fn seat(&mut self, about: &About) -> Option<&mut Seat> {
        let seats = &mut self.0.get_mut(&about.workload)?.instances;
        seats.iter_mut().find(|seat| seat.about.id == about.id)
    }
}

impl Entry {
    pub(super) fn status(&self) -> Option<WorkloadStatus> {
        let (wanted, content) = self.wanted.as_ref()?;
        Some(WorkloadStatus {
            generation: wanted.generation,
            content: content.clone(),
            counts: wanted
                .releases
                .iter()
                .map(|set| (set.release, set.count))
                .collect(),
            instances: self
                .instances
                .iter()
                .map(|seat| seat.status.clone())
                .collect(),
            unplaced: self.unplaced.clone(),
            autoscaling: None,
            endpoints: BTreeMap::new(),
            drift: None,
        })
    }

    /// Another instance of the same release serves, that is not lost.
    pub(super) fn replaced(&self, about: &About) -> bool {
        let mut others = self.instances.iter();
        others.any(|seat| {
            seat.about.release == about.release
                && seat.about.created >= about.created
                && !seat.lost
                && seat.status.ready
        })
    }

    /// What instances are wanted to be like; where that cannot be read, what they are like.
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        let instances = self.instances.iter().filter(|_| self.unread);
        let wanted = self.sets().map(|set| &set.template);
        wanted.chain(instances.map(|seat| &seat.about.template))
    }

    fn sets(&self) -> impl Iterator<Item = &ReleaseSet> {
        self.wanted.iter().flat_map(|(wanted, _)| &wanted.releases)
    }

    /// Of a release those go first that are named, then those that are not ready, then the youngest.
    fn retire(&mut self) {
        if self.unread {
            return;
        }
        let releases: BTreeSet<u64> = self
            .instances
            .iter()
            .map(|seat| seat.about.release)
            .collect();
        for release in releases {
            let of_release = || self.sets().filter(|set| set.release == release);
            let wanted: usize = of_release().map(|set| set.count as usize).sum();
            let retiring: BTreeSet<_> = of_release().flat_map(|set| set.retiring.clone()).collect();
            if wanted == 0 {
                // There will be no replacement to wait for.
                let lost = self
                    .instances
                    .iter()
                    .filter(|seat| seat.about.release == release && seat.lost);
                lost.for_each(|seat| seat.stop.cancel());
            }
            let staying = |seat: &&mut Seat| seat.about.release == release && seat.stays();
            let mut staying: Vec<_> = self.instances.iter_mut().filter(staying).collect();
            let surplus = staying.len().saturating_sub(wanted);
            staying.reverse();
            staying.sort_by_key(|seat| (!retiring.contains(&seat.about.id), seat.status.ready));
            for seat in staying.into_iter().take(surplus) {
                seat.retire();
            }
        }
    }

    /// What is missing, with the count that is.
    pub(super) fn missing(&self) -> Vec<ReleaseSet> {
        let missing = self.sets().map(|set| {
            let staying = self
                .instances
                .iter()
                .filter(|seat| seat.about.release == set.release && seat.stays());
            ReleaseSet {
                count: set
                    .count
                    .saturating_sub(u32::try_from(staying.count()).unwrap_or(u32::MAX)),
                ..set.clone()
            }
        });
        missing.filter(|set| set.count > 0).collect()
    }
}

impl Seat {
    /// Tells it to stop.
    pub(super) fn retire(&mut self) {
        self.status.state = InstanceState::Stopping;
        self.status.ready = false;
        self.stop.cancel();
    }

    pub(super) fn stays(&self) -> bool {
        !self.stop.is_cancelled() && !self.lost
    }
}
