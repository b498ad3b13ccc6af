use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{routes, template};
use crate::{
    Name, Timestamp,
    backend::{PeerAddress, RouteId, RouteStatus, VolumeId, WorkloadId, WorkloadStatus},
    controller::{Domains, FINALIZER, Settings},
    model::{
        Application, ApplicationKey, ApplicationSpec, Autoscale, Build, Host, Limits, Operation,
        Release, RestartPolicy, check::INSTANCES_MAX,
    },
};

/// Everything that a plan depends on, read afresh for each run.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Which application.
    pub key: ApplicationKey,
    /// Its object.
    pub application: Application,
    /// Its releases in order of version.
    pub releases: Vec<Release>,
    /// Its builds in order of number.
    pub builds: Vec<Build>,
    /// Its operations that have not ended.
    pub operations: Vec<Operation>,
    /// What runs of it.
    pub workloads: BTreeMap<WorkloadId, WorkloadStatus>,
    /// The workloads of which something is left, also removed ones. Asked for an application alone that is being destroyed.
    pub remains: BTreeSet<WorkloadId>,
    /// What leads to it.
    pub routes: BTreeMap<RouteId, RouteStatus>,
    /// Its volumes, if a release waits for any.
    pub volumes: Vec<VolumeId>,
    /// Who owns the hosts that it has or wants.
    pub claims: BTreeMap<Host, ApplicationKey>,
    /// Where its instances reach each of its bindings, by release and binding; of the releases that run or may.
    pub peers: BTreeMap<(u64, Name), Result<PeerAddress, Unreached>>,
    /// Who is bound to it.
    pub callers: Vec<Caller>,
    /// Somebody may be bound to it at an address that cannot be told now: routes from inside are not taken away.
    pub callers_missing: bool,
    /// One of them is being destroyed. What it was bound to may be forgotten together with it: then nobody tells that it is gone.
    pub callers_leaving: bool,
    /// What all applications of its environment may take together.
    pub limits: Limits,
    /// Why nothing new runs in its environment.
    pub hold: Option<Hold>,
    /// Which hosts it is given, and may have.
    pub domains: Domains,
    /// The scheduler sees to it that these limits are kept.
    pub quotas: bool,
    /// The scheduler decides itself how many instances of an autoscaled process run.
    pub autoscaling: bool,
    /// The builder builds source code, and does not take images alone.
    pub sources: bool,
    /// The secret store that the scheduler reads, if it reads any.
    pub secret_store: Option<Name>,
    /// The scheduler rolls step by step, not by itself.
    pub stepwise: bool,
    /// The status of redirects.
    pub redirect: u16,
    /// What time it is.
    pub now: Timestamp,
    /// How plans are made.
    pub settings: Settings,
}

/// Why nothing new runs in an environment. What ran before goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hold {
    /// In one word, for programs.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// It is not decided yet.
    pub waits: bool,
}

/// A use of this application by another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// Who uses it.
    pub application: ApplicationKey,
    /// Which process it uses.
    pub process: Name,
    /// Which port of that; `None`: the first.
    pub port: Option<Name>,
    /// Where it looks for it.
    pub address: PeerAddress,
}

/// Why a binding leads nowhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unreached {
    /// What the scheduler says.
    pub reason: String,
    /// It may be otherwise soon.
    pub passing: bool,
}

impl Snapshot {
    /// The first binding of a release that leads nowhere, and why.
    pub(super) fn unreached(&self, release: &Release) -> Option<(&Name, &Unreached)> {
        let version = release.spec.version;
        self.peers
            .iter()
            .filter(|((of, _), _)| *of == version)
            .find_map(|((_, name), peer)| Some((name, peer.as_ref().err()?)))
    }

    /// How long ago a time was; nothing if the clock was set back since.
    pub(super) fn since(&self, then: Timestamp) -> Duration {
        self.now.duration_since(then).try_into().unwrap_or_default()
    }

    /// The platform's controller has the last word before the application's object goes.
    pub(super) fn adopted(&self) -> bool {
        let finalizers = &self.application.metadata.finalizers;
        finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }

    /// The release with this version.
    pub(super) fn release(&self, version: u64) -> Option<&Release> {
        let index = self
            .releases
            .binary_search_by_key(&version, |release| release.spec.version);
        index.ok().map(|index| &self.releases[index])
    }

    /// The last release that became healthy.
    pub(super) fn current(&self) -> Option<&Release> {
        use crate::model::ReleasePhase::Healthy;
        self.releases
            .iter()
            .rev()
            .find(|release| release.status.phase == Healthy)
    }

    /// How many instances of a process of a release are wanted now, be it because an autoscaler says so.
    pub(super) fn wanted(&self, release: &Release, process: &Name) -> u32 {
        let count = self.count(release, process);
        let Some(bounds) = self.autoscale(release, process) else {
            return count;
        };
        let status = self.workloads.get(&routes::workload(self, process));
        let scaled = status.and_then(|status| status.autoscaling.as_ref());
        scaled.map_or(count, |it| it.wanted.clamp(bounds.min, bounds.max))
    }

    /// Between which bounds the scheduler decides how many instances of a process of a release run.
    pub(super) fn autoscale(&self, release: &Release, process: &Name) -> Option<Autoscale> {
        self.bounds(release, process).filter(|_| self.autoscaling)
    }

    /// Those bounds, whether the scheduler decides it or not.
    fn bounds(&self, release: &Release, process: &Name) -> Option<Autoscale> {
        let bounds = self.spec().autoscale.get(process)?;
        let declared = template::processes(release).remove(process)?;
        let can =
            declared.restart == RestartPolicy::Always && !template::single_writer(release, process);
        can.then(|| bounds.bounded())
    }

    /// How many instances of a process of a release are asked for: of one with a volume at most one, whatever count was set before; of one
    /// that is autoscaled the fewest.
    pub(super) fn count(&self, release: &Release, process: &Name) -> u32 {
        if let Some(bounds) = self.bounds(release, process) {
            return bounds.min;
        }
        let set = self.spec().scale.get(process).copied().unwrap_or(1);
        // Whatever somebody wrote into the object: a spec that is refused has no say in what runs.
        let set = set.min(INSTANCES_MAX);
        match template::single_writer(release, process) {
            true => set.min(1),
            false => set,
        }
    }

    pub(super) fn spec(&self) -> &ApplicationSpec {
        &self.application.spec
    }
}
