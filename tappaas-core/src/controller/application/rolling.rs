use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Snapshot, Step, routes, routes::Busy, template};
use crate::{
    Name, Timestamp,
    backend::{
        Endpoint, InstanceId, InstanceState, InstanceStatus, ReleaseSet, Workload, WorkloadStatus,
    },
    model::{Process, Release},
};

/// What the next move of one process is.
#[derive(Debug, Default)]
pub(super) struct Move<'a> {
    /// Where requests are answered, by the name of the port: of each instance that gets some, or of all together.
    pub(super) serving: Vec<&'a BTreeMap<Name, Endpoint>>,
    /// The instances that have to go once nothing leads to them any more, and since when they get nothing new.
    pub(super) draining: BTreeMap<String, Timestamp>,
    /// What to do now.
    pub(super) step: Option<Step>,
    /// Look again after this time.
    pub(super) next: Option<Duration>,
}

/// How often an instance on its way out is looked at.
const DRAIN_POLL: Duration = Duration::from_millis(100);

/// Plans one process's next move towards `goal` running alone, with as many instances as are wanted.
///
/// New instances come first, as many as `max_surge` allows. For each that is ready an old one gets no new requests, and is
/// stopped once the ingress says that it has drained. A process with a single writer stops first.
pub(super) fn next_move<'a>(
    snapshot: &'a Snapshot,
    name: &Name,
    goal: Option<&Release>,
) -> Move<'a> {
    let status = snapshot.workloads.get(&routes::workload(snapshot, name));
    let process = goal.and_then(|goal| template::processes(goal).remove(name));
    let frame = Frame::new(snapshot, name, goal, process.as_ref(), status);
    let leaving = frame.leaving();
    let mut next = Move::default();
    let mut stop: BTreeMap<u64, BTreeSet<InstanceId>> = BTreeMap::new();
    for instance in &leaving {
        let since = snapshot
            .application
            .status
            .draining
            .get(&instance.id.0)
            .copied()
            .unwrap_or(snapshot.now);
        let over = snapshot.since(since) >= frame.drain;
        match routes::busy(&snapshot.routes, instance) {
            Busy::Draining if over => {}
            Busy::Idle => {}
            Busy::Routed | Busy::Draining => {
                next.draining.insert(instance.id.0.clone(), since);
                next.next = Some(DRAIN_POLL);
                continue;
            }
        }
        stop.entry(instance.release)
            .or_default()
            .insert(instance.id.clone());
    }
    let gone: BTreeSet<&InstanceId> = leaving.iter().map(|instance| &instance.id).collect();
    let stays = |instance: &&InstanceStatus| instance.ready && !gone.contains(&instance.id);
    let staying = frame.instances.iter().copied().filter(stays);
    next.serving = staying.map(|instance| &instance.endpoints).collect();
    next.step = frame.step(snapshot, name, goal.zip(process.as_ref()), stop);
    next
}

/// What a process runs now, and what it should.
struct Frame<'a> {
    status: Option<&'a WorkloadStatus>,
    /// All but the stopping ones.
    instances: Vec<&'a InstanceStatus>,
    goal: Option<u64>,
    wanted: u32,
    surge: u32,
    unavailable: u32,
    single: bool,
    /// A binding of the goal leads nowhere: what starts now would lack its address.
    unreached: bool,
    drain: Duration,
}

impl<'a> Frame<'a> {
    fn new(
        snapshot: &Snapshot,
        name: &Name,
        goal: Option<&Release>,
        process: Option<&Process>,
        status: Option<&'a WorkloadStatus>,
    ) -> Self {
        let single = goal.is_some_and(|goal| template::single_writer(goal, name));
        let wanted = goal
            .filter(|_| process.is_some())
            .map_or(0, |goal| snapshot.wanted(goal, name));
        let rollout = goal
            .map(|goal| goal.spec.content.rollout.clone())
            .unwrap_or_default();
        let instances = status
            .map(|status| status.instances.iter())
            .into_iter()
            .flatten();
        Self {
            status,
            instances: instances
                .filter(|instance| instance.state != InstanceState::Stopping)
                .collect(),
            goal: goal
                .filter(|_| process.is_some())
                .map(|goal| goal.spec.version),
            wanted,
            surge: match rollout.max_unavailable {
                0 => rollout.max_surge.max(1),
                _ => rollout.max_surge,
            },
            unavailable: rollout.max_unavailable,
            single,
            unreached: goal.is_some_and(|goal| snapshot.unreached(goal).is_some()),
            drain: Duration::from_secs(rollout.drain_seconds.into()),
        }
    }

    /// The applied count of a release.
    fn count(&self, release: u64) -> u32 {
        self.status
            .and_then(|status| status.counts.get(&release))
            .copied()
            .unwrap_or(0)
    }

    fn new_count(&self) -> u32 {
        self.goal.map_or(0, |goal| self.count(goal))
    }

    fn old_count(&self) -> u32 {
        let counts = self
            .status
            .map(|status| status.counts.values().sum())
            .unwrap_or(0);
        counts - self.new_count()
    }

    fn is_new(&self, instance: &InstanceStatus) -> bool {
        self.goal == Some(instance.release)
    }

    /// The instances that have to go: old ones that new ones stand in for, and surplus new ones.
    fn leaving(&self) -> Vec<&'a InstanceStatus> {
        let (mut new, mut old): (Vec<&'a InstanceStatus>, Vec<&'a InstanceStatus>) = self
            .instances
            .iter()
            .partition(|instance| self.is_new(instance));
        old.sort_by_key(|instance| {
            (
                instance.ready,
                instance.release,
                instance.created,
                &instance.id,
            )
        });
        new.sort_by_key(|instance| {
            (
                instance.ready,
                std::cmp::Reverse((instance.created, &instance.id)),
            )
        });
        old.truncate(self.replaceable() as usize);
        new.truncate(self.new_count().saturating_sub(self.wanted) as usize);
        old.extend(new);
        old
    }

    /// How many old instances need not be there any more.
    fn replaceable(&self) -> u32 {
        if self.goal.is_none() || self.single {
            return self.old_count();
        }
        let ready = self
            .instances
            .iter()
            .filter(|instance| self.is_new(instance) && instance.ready)
            .count();
        let ready = u32::try_from(ready).unwrap_or(u32::MAX).min(self.wanted);
        let needed = self.wanted.saturating_sub(self.unavailable);
        (ready + self.old_count())
            .saturating_sub(needed)
            .min(self.old_count())
    }

    /// How many new instances may start, once `stopped` old ones are told to stop.
    fn grow(&self, stopped: u32) -> u32 {
        if self.unreached {
            return 0;
        }
        let missing = self.wanted.saturating_sub(self.new_count());
        let old = self.old_count() - stopped.min(self.old_count());
        if self.single {
            // Not even a stopping instance may still hold the volume.
            let held = self
                .status
                .is_some_and(|status| !status.instances.is_empty());
            return if held { 0 } else { missing };
        }
        let room = (self.wanted + self.surge).saturating_sub(self.new_count() + old);
        missing.min(room)
    }

    fn step(
        &self,
        snapshot: &Snapshot,
        name: &Name,
        goal: Option<(&Release, &Process)>,
        mut stop: BTreeMap<u64, BTreeSet<InstanceId>>,
    ) -> Option<Step> {
        let id = routes::workload(snapshot, name);
        let before = self
            .status
            .map(|status| status.counts.clone())
            .unwrap_or_default();
        let mut counts = before.clone();
        for (release, retiring) in &stop {
            let retired = u32::try_from(retiring.len()).unwrap_or(u32::MAX);
            counts
                .entry(*release)
                .and_modify(|count| *count = count.saturating_sub(retired));
        }
        let stopped = stop
            .iter()
            .filter(|(release, _)| self.goal != Some(**release))
            .map(|(_, ids)| ids.len())
            .sum::<usize>();
        let grow = self.grow(u32::try_from(stopped).unwrap_or(u32::MAX));
        if let Some(goal) = self.goal.filter(|_| grow > 0) {
            *counts.entry(goal).or_insert(0) += grow;
        }
        // Releases whose instances all vanished by themselves, or whose record is gone, are not kept.
        counts.retain(|release, count| *count > 0 && snapshot.release(*release).is_some());
        let nothing_left = self
            .status
            .is_some_and(|status| status.instances.is_empty())
            && counts.is_empty();
        // What the newest release wrote stays readable, above all if it was refused.
        let newest = snapshot.releases.last();
        let told = newest.is_some_and(|newest| template::processes(newest).contains_key(name));
        if goal.is_none() && nothing_left && !told {
            return Some(Step::RemoveWorkload(id));
        }
        if counts == before || (self.status.is_none() && counts.is_empty()) {
            return None;
        }
        let releases = counts.into_iter().filter_map(|(version, count)| {
            let release = snapshot.release(version)?;
            let process = template::processes(release).remove(name)?;
            Some(ReleaseSet {
                release: version,
                count,
                retiring: stop.remove(&version).unwrap_or_default(),
                template: template::template(snapshot, release, name, &process),
            })
        });
        Some(Step::ApplyWorkload(Box::new(Workload {
            id,
            generation: self.status.map_or(0, |status| status.generation) + 1,
            releases: releases.collect(),
            rollout: None,
            autoscale: None,
        })))
    }
}
