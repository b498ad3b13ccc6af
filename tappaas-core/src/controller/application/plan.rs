use std::{collections::BTreeSet, time::Duration};

use super::{
    Snapshot, Step, command, entrusted, origin, report, rolling, routes,
    routes::Serving,
    target::{self, Target},
    template,
    verdict::{self, Verdict},
};
use crate::{
    Name,
    backend::{Volume, VolumeId, WorkloadStatus},
    model::{Release, ReleasePhase, ReleaseStatus},
};

/// What must be done so that what is becomes what is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In this order; the first failure ends the run. A status that comes last is told only where nothing was done before it, or not all:
    /// else the next plan tells it.
    pub steps: Vec<Step>,
    /// Look again after this time, even if nothing changes.
    pub next: Option<Duration>,
}

/// Plans the next steps. Pure: the same snapshot gives the same plan; when nothing is left to do it is empty.
pub fn plan(snapshot: &Snapshot) -> Plan {
    if snapshot.application.metadata.deletion.is_some() {
        return destroy(snapshot);
    }
    if !snapshot.adopted() {
        return adopt(snapshot);
    }
    let mut draft = Draft::default();
    let target = target::choose(snapshot, &mut draft);
    let verdict = match &target {
        Target::Release(release) => advance(snapshot, release, &mut draft),
        Target::Building(_) | Target::Refused(_) => None,
    };
    let goal = goal(snapshot, &target);
    let routing = match verdict {
        Some(Verdict::Healthy(_)) => goal,
        _ => snapshot.current().or(goal),
    };
    roll(snapshot, goal, routing, &mut draft);
    command::stop(snapshot, &mut draft);
    if snapshot.callers_leaving {
        draft.wait(super::RETRY);
    }
    draft.finish(snapshot, &target, goal)
}

/// Before anything of it runs: what went meanwhile would leave it behind.
fn adopt(snapshot: &Snapshot) -> Plan {
    Plan {
        steps: vec![Step::Adopt {
            application: snapshot.key.name.clone(),
        }],
        next: None,
    }
}

/// What a plan is drafted from.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Records first, so that a crash loses track of nothing, then routes and workloads.
    pub(super) steps: Vec<Step>,
    /// Verdicts, which come after all else: they say that it is done.
    pub(super) judgements: Vec<Step>,
    pub(super) next: Option<Duration>,
    pub(super) message: Option<String>,
    /// Routes that are about to be made, be it after these steps.
    pub(super) routes: BTreeSet<Name>,
    /// One of them is a way in from outside that was not there.
    pub(super) opens: bool,
    pub(super) draining: std::collections::BTreeMap<String, crate::Timestamp>,
}

impl Draft {
    pub(super) fn wait(&mut self, next: Duration) {
        self.next = Some(self.next.map_or(next, |earlier| earlier.min(next)));
    }

    fn finish(mut self, snapshot: &Snapshot, target: &Target<'_>, goal: Option<&Release>) -> Plan {
        let status = report::status(snapshot, target, goal, &self);
        let mut steps = self.steps;
        steps.append(&mut self.judgements);
        let reports = report::operations(snapshot, target);
        // Whoever waits for the end of an operation looks at the application next.
        let ends = reports.iter().any(Step::ends_operation);
        steps.extend(reports);
        let told = &snapshot.application.status;
        if status != *told {
            let first = ends || report::keeps_track(&status, told);
            let place = if first { 0 } else { steps.len() };
            steps.insert(place, Step::SetStatus(Box::new(status)));
        }
        let left = report::scaling_deadline(snapshot);
        Plan {
            steps,
            next: self.next.into_iter().chain(left).min(),
        }
    }
}

/// The release that ought to run alone in the end.
fn goal<'a>(snapshot: &'a Snapshot, target: &Target<'a>) -> Option<&'a Release> {
    match target {
        Target::Release(release) if release.status.phase == ReleasePhase::RollingOut => {
            Some(release)
        }
        _ => snapshot.current(),
    }
}

/// Moves a release on that has not ended.
fn advance(snapshot: &Snapshot, release: &Release, draft: &mut Draft) -> Option<Verdict> {
    match release.status.phase {
        ReleasePhase::Pending => {
            prepare(snapshot, release, draft);
            None
        }
        ReleasePhase::RollingOut if unreached(snapshot, release, draft) => None,
        ReleasePhase::RollingOut => {
            let verdict = verdict::judge(snapshot, release);
            match &verdict {
                Verdict::Healthy(ports) => judge(release, draft, |status| {
                    status.phase = ReleasePhase::Healthy;
                    status.ports.clone_from(ports);
                    status.ended = Some(snapshot.now);
                }),
                Verdict::Failed(reason) => fail(snapshot, release, draft, reason.clone()),
                Verdict::Open(message, left) => {
                    draft.message = Some(message.clone());
                    draft.wait(*left);
                }
            }
            Some(verdict)
        }
        ReleasePhase::Healthy | ReleasePhase::Failed | ReleasePhase::Superseded => None,
    }
}

/// Makes what a release needs before its instances start, and runs its release command.
fn prepare(snapshot: &Snapshot, release: &Release, draft: &mut Draft) {
    if unreached(snapshot, release, draft) {
        return;
    }
    let hosts = routes::hosts(snapshot, release);
    let taken = hosts.iter().find(|host| {
        snapshot
            .claims
            .get(*host)
            .is_some_and(|owner| *owner != snapshot.key)
    });
    if let Some(host) = taken {
        return fail(
            snapshot,
            release,
            draft,
            format!("host {host} is taken by another application"),
        );
    }
    let free = hosts
        .iter()
        .filter(|host| !snapshot.claims.contains_key(*host));
    let mut missing: Vec<Step> = free
        .map(|host| Step::ClaimHost { host: host.clone() })
        .collect();
    for (name, mount) in &release.spec.content.volumes {
        let id = VolumeId {
            application: snapshot.key.clone(),
            name: name.clone(),
        };
        if !snapshot.volumes.contains(&id) {
            missing.push(Step::ApplyVolume(Volume {
                id,
                size: mount.size,
            }));
        }
    }
    if !missing.is_empty() {
        draft.steps.append(&mut missing);
        return draft.wait(Duration::ZERO);
    }
    match template::release_command(release) {
        Some(command) if release.status.command.is_none() => {
            command::run(snapshot, release, command, draft);
        }
        _ => judge(release, draft, |status| {
            status.phase = ReleasePhase::RollingOut;
            status.started = Some(snapshot.now);
        }),
    }
}

/// Fails a release with a binding that leads nowhere, or waits if that may pass. Without its address no instance starts.
fn unreached(snapshot: &Snapshot, release: &Release, draft: &mut Draft) -> bool {
    let Some((binding, unreached)) = snapshot.unreached(release) else {
        return false;
    };
    let reason = format!("binding {binding}: {}", unreached.reason);
    if unreached.passing {
        draft.wait(super::RETRY);
        let open = format!("{reason}; not reached");
        overdue(snapshot, release, &open, draft);
        draft.message = Some(reason);
    } else {
        fail(snapshot, release, draft, reason);
    }
    true
}

/// Fails a release that is not prepared in time, saying what it waits for.
pub(super) fn overdue(snapshot: &Snapshot, release: &Release, open: &str, draft: &mut Draft) {
    let limit = Duration::from_secs(release.spec.content.rollout.deadline_seconds.into());
    let created = release.metadata.created.unwrap_or(snapshot.now);
    let left = limit.saturating_sub(snapshot.since(created));
    if left.is_zero() {
        let reason = format!("{open} within {} s", limit.as_secs());
        return fail(snapshot, release, draft, reason);
    }
    draft.wait(left);
}

pub(super) fn fail(snapshot: &Snapshot, release: &Release, draft: &mut Draft, reason: String) {
    judge(release, draft, |status| {
        status.phase = ReleasePhase::Failed;
        status.message = reason;
        status.ended = Some(snapshot.now);
    });
}

pub(super) fn judge(release: &Release, draft: &mut Draft, change: impl FnOnce(&mut ReleaseStatus)) {
    let mut status = release.status.clone();
    change(&mut status);
    draft.judgements.push(Step::Judge {
        release: release.spec.version,
        status: Box::new(status),
    });
}

/// Moves every process towards the goal, and the routes with them.
fn roll(snapshot: &Snapshot, goal: Option<&Release>, routing: Option<&Release>, draft: &mut Draft) {
    let mut serving = Serving::new();
    let mut workloads = Vec::new();
    for name in processes(snapshot, goal) {
        // What only the old release has goes on until the new one is healthy.
        let rolling = goal.is_some_and(|goal| goal.status.phase == ReleasePhase::RollingOut);
        let lacks = goal.is_some_and(|goal| !template::processes(goal).contains_key(&name));
        let towards = if rolling && lacks {
            snapshot.current()
        } else {
            goal
        };
        let next = match snapshot.stepwise {
            true => rolling::next_move(snapshot, &name, towards),
            false => entrusted::next_move(snapshot, &name, towards),
        };
        draft.draining.extend(next.draining);
        if let Some(wait) = next.next {
            draft.wait(wait);
        }
        workloads.extend(next.step);
        serving.insert(name, next.serving);
    }
    let unreached = goal.and_then(|goal| snapshot.unreached(goal));
    if snapshot.callers_missing || unreached.is_some_and(|(_, why)| why.passing) {
        draft.wait(super::RETRY);
    }
    let drifts = |status: &WorkloadStatus| status.drift.is_some();
    // What is in the way of an instance that is not even there, nobody tells of.
    let lacks = |status: &WorkloadStatus| {
        let counts = status.counts.values().map(|count| *count as usize);
        status.instances.len() < counts.sum()
    };
    let hindered = |status: &WorkloadStatus| {
        let autoscaling = status.autoscaling.as_ref();
        autoscaling.is_some_and(|it| it.hindrance.is_some())
    };
    let told_by_nobody = |status| lacks(status) || hindered(status);
    if !snapshot.stepwise && snapshot.workloads.values().any(told_by_nobody) {
        draft.wait(super::RETRY);
    }
    let routes = snapshot.routes.values();
    for route in routes.filter(|route| route.pending.is_some()) {
        draft.wait(route.look_after.unwrap_or(super::RETRY).min(super::RETRY));
    }
    if snapshot.workloads.values().any(drifts) {
        draft.wait(super::RETRY);
    }
    let mut routes = routes::steps(snapshot, routes::desired(snapshot, routing, &serving));
    draft.routes.extend(routes.iter().filter_map(Step::route));
    draft.opens = routes.iter().any(|step| routes::opens(snapshot, step));
    // What is entrusted to the scheduler has its address as soon as it is there, and until then there is nothing to lead to.
    if !snapshot.stepwise && workloads.iter().any(|step| begins(snapshot, step)) {
        routes.retain(|step| !routes::leads_nowhere_yet(snapshot, step));
    }
    draft.steps.extend(routes);
    draft.steps.extend(workloads);
    draft.steps.extend(unclaimed(snapshot, goal));
}

fn begins(snapshot: &Snapshot, step: &Step) -> bool {
    matches!(step, Step::ApplyWorkload(workload) if !snapshot.workloads.contains_key(&workload.id))
}

/// Every process that runs or should, the one of the release command not counted.
fn processes(snapshot: &Snapshot, goal: Option<&Release>) -> BTreeSet<Name> {
    let running = snapshot.workloads.keys().map(|id| id.process.clone());
    let wanted = goal
        .map(template::processes)
        .unwrap_or_default()
        .into_keys();
    let all = running.chain(wanted);
    all.filter(|name| *name != *template::RELEASE_PROCESS)
        .collect()
}

/// Hosts that no release needs any more.
fn unclaimed(snapshot: &Snapshot, goal: Option<&Release>) -> Vec<Step> {
    let open = snapshot
        .releases
        .iter()
        .filter(|release| !release.status.phase.ended());
    let needed: BTreeSet<_> = open
        .chain(goal)
        .chain(snapshot.current())
        .flat_map(|r| routes::hosts(snapshot, r))
        .collect();
    let routed = |host: &crate::model::Host| {
        snapshot
            .routes
            .values()
            .any(|status| match &status.route.frontend {
                crate::backend::Frontend::Http { hosts, .. } => hosts.contains(host),
                crate::backend::Frontend::Inner { .. } => false,
            })
    };
    let ours = snapshot
        .claims
        .iter()
        .filter(|(_, owner)| **owner == snapshot.key)
        .map(|(host, _)| host);
    let surplus = ours.filter(|host| !needed.contains(*host) && !routed(host));
    surplus
        .map(|host| Step::ReleaseHost { host: host.clone() })
        .collect()
}

/// Requests first, then instances, then records.
fn destroy(snapshot: &Snapshot) -> Plan {
    if !snapshot.adopted() {
        // Nothing of it ever ran, or all of it is gone already: only somebody else still holds the object.
        return Plan::default();
    }
    let status = report::destroying(snapshot);
    let mut steps = Vec::new();
    if status != snapshot.application.status {
        steps.push(Step::SetStatus(Box::new(status)));
    }
    steps.extend(snapshot.routes.keys().cloned().map(Step::RemoveRoute));
    if !snapshot.routes.is_empty() {
        return Plan {
            steps,
            next: Some(Duration::ZERO),
        };
    }
    let active = snapshot
        .builds
        .iter()
        .filter(|build| !build.status.phase.ended() && !build.spec.cancelled);
    steps.extend(active.map(|build| Step::CancelBuild {
        number: build.spec.number,
    }));
    // Instances have their grace; until they are gone they hold volumes, and it is not over.
    steps.extend(snapshot.remains.iter().cloned().map(Step::RemoveWorkload));
    if !snapshot.remains.is_empty() {
        return Plan {
            steps,
            next: Some(Duration::from_millis(200)),
        };
    }
    steps.push(Step::Forget {
        application: snapshot.key.name.clone(),
    });
    Plan { steps, next: None }
}

/// The origin of the release that the application's spec asks for.
pub(super) fn wanted_origin(snapshot: &Snapshot) -> crate::Digest {
    origin(snapshot.spec())
}
