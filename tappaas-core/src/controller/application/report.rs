use std::{collections::BTreeMap, time::Duration};

use super::{
    Snapshot, Step, Unreached, conditions::conditions, plan::Draft, routes, target::Target,
    template,
};
use crate::{
    Name,
    backend::InstanceState,
    model::{
        ApplicationStatus, Operation, OperationState, OperationStatus, OperationVerb, Phase,
        ProcessStatus, Release, ReleasePhase,
    },
};

/// How the application is.
pub(super) fn status(
    snapshot: &Snapshot,
    target: &Target<'_>,
    goal: Option<&Release>,
    draft: &Draft,
) -> ApplicationStatus {
    let (phase, message) = phase(snapshot, target, draft);
    let current = snapshot.current();
    ApplicationStatus {
        conditions: conditions(snapshot, target, phase, &message),
        generation: snapshot.application.metadata.generation,
        current: current.map(|release| release.spec.version),
        latest: snapshot.releases.last().map(|release| release.spec.version),
        phase,
        message,
        draining: draft.draining.clone(),
        processes: processes(snapshot, goal),
        routes: names(snapshot, draft),
        hosts: goal
            .map(|goal| routes::hosts(snapshot, goal))
            .unwrap_or_default()
            .into_iter()
            .collect(),
        image: current.map(|release| release.spec.image.clone()),
    }
}

/// How an application is that is being destroyed.
pub(super) fn destroying(snapshot: &Snapshot) -> ApplicationStatus {
    ApplicationStatus {
        phase: Phase::Destroying,
        message: "stopping".to_owned(),
        conditions: Vec::new(),
        ..snapshot.application.status.clone()
    }
}

/// Says whether a status has what another one has not, and what is known by it alone after a crash.
pub(super) fn keeps_track(status: &ApplicationStatus, told: &ApplicationStatus) -> bool {
    let new_process = |name| !told.processes.contains_key(name);
    let new_drain = |instance| !told.draining.contains_key(instance);
    status.current != told.current
        || status.draining.keys().any(new_drain)
        || status.processes.keys().any(new_process)
        || status
            .routes
            .iter()
            .any(|route| !told.routes.contains(route))
        || status.hosts.iter().any(|host| !told.hosts.contains(host))
}

fn phase(snapshot: &Snapshot, target: &Target<'_>, draft: &Draft) -> (Phase, String) {
    let release = match target {
        Target::Building(message) => return (Phase::Building, message.clone()),
        Target::Refused(refusal) => return (Phase::Failed, refusal.message.clone()),
        Target::Release(release) => release,
    };
    let version = release.spec.version;
    let now = draft.message.clone().unwrap_or_default();
    match release.status.phase {
        ReleasePhase::Pending => (Phase::Releasing, now),
        ReleasePhase::RollingOut => (Phase::RollingOut, now),
        ReleasePhase::Healthy => healthy(snapshot, release, draft),
        ReleasePhase::Failed | ReleasePhase::Superseded => (
            Phase::Failed,
            format!("release {version} failed: {}", release.status.message),
        ),
    }
}

/// A release that all instances of were ready runs once its routes are made and have followed. When they follow something later on, it runs
/// on.
fn healthy(snapshot: &Snapshot, release: &Release, draft: &Draft) -> (Phase, String) {
    let told = &snapshot.application.status;
    let ran = told.current == Some(release.spec.version)
        && told.phase == Phase::Running
        && told.message.is_empty();
    let shortages = shortages(snapshot, release);
    let made = draft.opens.then(|| "its routes are made".to_owned());
    let following: Vec<_> = made
        .into_iter()
        .chain(routes::following(snapshot))
        .collect();
    match ran || following.is_empty() || !shortages.is_empty() {
        true => (Phase::Running, shortages),
        false => (Phase::RollingOut, following.join("; ")),
    }
}

/// What is missing of a healthy release.
fn shortages(snapshot: &Snapshot, release: &Release) -> String {
    let processes = processes(snapshot, Some(release));
    let short = processes
        .iter()
        .filter(|(_, process)| process.ready < process.wanted);
    let each = short.map(|(name, process)| {
        let reasons = process.reasons.join(", ");
        format!(
            "process {name} has {} of {} instances ready: {reasons}",
            process.ready, process.wanted
        )
    });
    let each = each.chain(routes::held_up(snapshot));
    each.collect::<Vec<_>>().join("; ")
}

fn processes(snapshot: &Snapshot, goal: Option<&Release>) -> BTreeMap<Name, ProcessStatus> {
    let mut processes: BTreeMap<Name, ProcessStatus> = goal
        .into_iter()
        .flat_map(|goal| {
            let names = template::processes(goal).into_keys();
            names.map(move |name| (snapshot.wanted(goal, &name), name))
        })
        .map(|(wanted, name)| {
            let status = ProcessStatus {
                wanted,
                ..ProcessStatus::default()
            };
            (name, status)
        })
        .collect();
    // What only runs is kept track of until nothing of it is left.
    for (id, workload) in &snapshot.workloads {
        let process = processes.entry(id.process.clone()).or_default();
        for instance in workload
            .instances
            .iter()
            .filter(|instance| instance.state != InstanceState::Stopping)
        {
            process.ready += u32::from(instance.ready);
            process.restarts += instance.restarts;
            process
                .reasons
                .extend(instance.reason.clone().filter(|_| !instance.ready));
        }
        process.reasons.extend(workload.drift.clone());
        process.reasons.extend(
            workload
                .unplaced
                .iter()
                .flat_map(|unplaced| unplaced.reasons.clone()),
        );
        let unreached = goal.filter(|_| process.ready < process.wanted);
        let unreached = unreached.and_then(|goal| snapshot.unreached(goal));
        let reason =
            |(binding, why): (&Name, &Unreached)| format!("binding {binding}: {}", why.reason);
        process.reasons.extend(unreached.map(reason));
        process.reasons.sort();
        process.reasons.dedup();
    }
    let open = snapshot
        .releases
        .last()
        .filter(|release| !release.status.phase.ended());
    if open.is_some_and(|release| template::release_command(release).is_some()) {
        processes
            .entry(Name::new(template::RELEASE_PROCESS).expect("`release` is a name"))
            .or_default();
    }
    processes
}

/// The names of all routes that are there or are about to be.
fn names(snapshot: &Snapshot, draft: &Draft) -> Vec<Name> {
    let there = snapshot.routes.keys().map(|id| &id.name);
    let mut names: Vec<Name> = there.chain(&draft.routes).cloned().collect();
    names.sort();
    names.dedup();
    names
}

/// How the operations go, where that changed.
pub(super) fn operations(snapshot: &Snapshot, target: &Target<'_>) -> Vec<Step> {
    let reports = snapshot.operations.iter().filter_map(|operation| {
        let mut status = operation.status.clone();
        let (mut state, mut message) = progress(snapshot, operation, target, &mut status);
        if operation.spec.cancelled && state == OperationState::Superseded {
            // What took its place is what was there before.
            (state, message) = (OperationState::Cancelled, "cancelled".to_owned());
        }
        (status.state, status.message) = (state, message);
        if state.ended() {
            status.ended = Some(snapshot.now);
        }
        (status != operation.status).then(|| Step::Report {
            operation: operation.metadata.name.clone(),
            status: Box::new(status),
        })
    });
    reports.collect()
}

fn progress(
    snapshot: &Snapshot,
    operation: &Operation,
    target: &Target<'_>,
    status: &mut OperationStatus,
) -> (OperationState, String) {
    let Some(origin) = &operation.spec.origin else {
        return scaling(snapshot, operation);
    };
    status.build = snapshot
        .builds
        .last()
        .map(|build| build.spec.number)
        .or(status.build);
    if let Some(release) = snapshot
        .releases
        .iter()
        .rev()
        .find(|release| release.spec.origin == *origin)
    {
        status.release = Some(release.spec.version);
        return outcome(snapshot, release);
    }
    if super::plan::wanted_origin(snapshot) != *origin {
        return (
            OperationState::Superseded,
            "superseded by a newer request".to_owned(),
        );
    }
    match target {
        Target::Refused(refusal) => (OperationState::Failed, refusal.message.clone()),
        Target::Building(message) => (OperationState::Running, message.clone()),
        Target::Release(release) => outcome(snapshot, release),
    }
}

fn outcome(snapshot: &Snapshot, release: &Release) -> (OperationState, String) {
    let version = release.spec.version;
    let message = &release.status.message;
    match release.status.phase {
        ReleasePhase::Pending => (
            OperationState::Running,
            format!("release {version} is prepared"),
        ),
        ReleasePhase::RollingOut => (OperationState::Running, rolling(snapshot, release)),
        ReleasePhase::Healthy => (
            OperationState::Succeeded,
            format!("release {version} is healthy{}", found_ports(release)),
        ),
        ReleasePhase::Failed => (
            OperationState::Failed,
            format!("release {version} failed: {message}"),
        ),
        ReleasePhase::Superseded => (OperationState::Superseded, message.clone()),
    }
}

fn rolling(snapshot: &Snapshot, release: &Release) -> String {
    let version = release.spec.version;
    let (mut ready, mut wanted) = (0, 0);
    for name in template::processes(release).into_keys() {
        wanted += snapshot.wanted(release, &name);
        let workload = snapshot.workloads.get(&routes::workload(snapshot, &name));
        let instances = workload
            .map(|workload| workload.instances.iter())
            .into_iter()
            .flatten();
        let count = instances
            .filter(|instance| instance.release == version && instance.ready)
            .count();
        ready += u32::try_from(count).unwrap_or(u32::MAX);
    }
    format!("release {version} rolls out: {ready} of {wanted} instances ready")
}

fn scaling(snapshot: &Snapshot, operation: &Operation) -> (OperationState, String) {
    if operation.spec.verb == OperationVerb::Destroy {
        // Deletion comes before its record: this is another application of the same name.
        let message = "the application was made anew since".to_owned();
        return (OperationState::Superseded, message);
    }
    let Some(current) = snapshot.current() else {
        return (
            OperationState::Succeeded,
            "no release runs yet; the next one gets these counts".to_owned(),
        );
    };
    let processes = processes(snapshot, Some(current));
    let settled = |name: &Name, process: &ProcessStatus| {
        let workload = snapshot.workloads.get(&routes::workload(snapshot, name));
        let instances = workload.map_or(0, |workload| workload.instances.len());
        process.ready == process.wanted && instances == process.wanted as usize
    };
    let declared = template::processes(current);
    let open: Vec<_> = processes
        .iter()
        .filter(|(name, p)| declared.contains_key(*name) && !settled(name, p))
        .collect();
    if open.is_empty() {
        let message = match processes.values().any(|process| process.wanted > 0) {
            true => "all instances are ready",
            false => "no instance runs any more",
        };
        return (OperationState::Succeeded, message.to_owned());
    }
    let each = open.iter().map(|(name, process)| {
        let reasons = if process.reasons.is_empty() {
            String::new()
        } else {
            format!(" ({})", process.reasons.join(", "))
        };
        match process.ready > process.wanted {
            true => format!(
                "process {name} stops {} of {} instances",
                process.ready - process.wanted,
                process.ready
            ),
            false => format!(
                "process {name} has {} of {} instances ready{reasons}",
                process.ready, process.wanted
            ),
        }
    });
    let each = each.collect::<Vec<_>>().join("; ");
    // What stops has bounds of its own.
    let short = open
        .iter()
        .any(|(_, process)| process.ready < process.wanted);
    if short && scaling_left(snapshot, operation, current).is_zero() {
        let limit = current.spec.content.rollout.deadline_seconds;
        let message = format!("not so within {limit} s, but the counts stay: {each}");
        return (OperationState::Failed, message);
    }
    (OperationState::Running, each)
}

/// How long the first of the operations that scale may still take.
pub(super) fn scaling_deadline(snapshot: &Snapshot) -> Option<Duration> {
    let current = snapshot.current()?;
    let operations = snapshot.operations.iter();
    let scaling = operations.filter(|operation| operation.spec.verb == OperationVerb::Scale);
    let left = scaling.map(|operation| scaling_left(snapshot, operation, current));
    left.filter(|left| !left.is_zero()).min()
}

/// Instances that are added have as long as those of a rollout.
fn scaling_left(snapshot: &Snapshot, operation: &Operation, current: &Release) -> Duration {
    let limit = Duration::from_secs(current.spec.content.rollout.deadline_seconds.into());
    let created = operation.metadata.created.unwrap_or(snapshot.now);
    limit.saturating_sub(snapshot.since(created))
}

/// The ports that processes turned out to listen on, which whoever deployed did not name.
fn found_ports(release: &Release) -> String {
    let ports = release.status.ports.iter();
    let each = ports.map(|(name, port)| {
        format!("; process {name} is reached on port {port}, the one it listens on")
    });
    each.collect()
}
