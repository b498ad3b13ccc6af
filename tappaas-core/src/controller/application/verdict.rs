use std::{collections::BTreeMap, time::Duration};

use super::{Snapshot, routes, template};
use crate::{
    Name,
    backend::{InstanceState, InstanceStatus, WorkloadStatus},
    model::{Process, Release},
};

/// What is to be said of a release that is rolling out.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// All its instances are ready. The ports found, by process.
    Healthy(BTreeMap<Name, u16>),
    /// It will not become healthy.
    Failed(String),
    /// Not known yet; so it is now, and so long it may still take.
    Open(String, Duration),
}

/// Judges a release by its instances.
pub(super) fn judge(snapshot: &Snapshot, release: &Release) -> Verdict {
    let mut ports = BTreeMap::new();
    let mut missing = Vec::new();
    for (name, process) in template::processes(release) {
        let status = snapshot.workloads.get(&routes::workload(snapshot, &name));
        let instances = instances(status, release.spec.version);
        if let Some(reason) = instances
            .iter()
            .find_map(|instance| broken(&process, instance))
        {
            return Verdict::Failed(format!("process {name} {reason}"));
        }
        if let Some(port) = instances.iter().find_map(|instance| instance.found_port) {
            ports.insert(name.clone(), port);
        }
        missing.extend(shortage(snapshot, release, &name, &instances, status));
    }
    if missing.is_empty() {
        return Verdict::Healthy(ports);
    }
    let message = missing.join("; ");
    let limit = Duration::from_secs(release.spec.content.rollout.deadline_seconds.into());
    let started = release.status.started.unwrap_or(snapshot.now);
    let left = limit.saturating_sub(snapshot.since(started));
    if left.is_zero() {
        return Verdict::Failed(format!(
            "not healthy within {} s: {message}",
            limit.as_secs()
        ));
    }
    Verdict::Open(message, left)
}

fn instances(status: Option<&WorkloadStatus>, release: u64) -> Vec<&InstanceStatus> {
    let all = status
        .map(|status| status.instances.iter())
        .into_iter()
        .flatten();
    all.filter(|instance| instance.release == release && instance.state != InstanceState::Stopping)
        .collect()
}

/// Says why an instance will not become healthy, if that is certain.
fn broken(process: &Process, instance: &InstanceStatus) -> Option<String> {
    let ended = matches!(
        instance.state,
        InstanceState::Exited | InstanceState::CrashLoop
    );
    if !ended || finished(process, instance) {
        return None;
    }
    let exit = instance.exit.as_ref();
    let mut reason = exit.map_or_else(|| "keeps ending".to_owned(), ToString::to_string);
    if exit.is_some_and(crate::backend::Exit::success) {
        reason.push_str(", but it should keep running");
    }
    Some(match &instance.reason {
        // With what it wrote last, where that is known.
        Some(detail) if exit.is_none() || detail.starts_with(&reason) => detail.clone(),
        _ => reason,
    })
}

/// Says whether a process that need not go on has done its work.
fn finished(process: &Process, instance: &InstanceStatus) -> bool {
    let may_end = process.restart != crate::model::RestartPolicy::Always;
    may_end
        && instance.state == InstanceState::Exited
        && instance
            .exit
            .as_ref()
            .is_some_and(crate::backend::Exit::success)
}

fn shortage(
    snapshot: &Snapshot,
    release: &Release,
    name: &Name,
    instances: &[&InstanceStatus],
    status: Option<&WorkloadStatus>,
) -> Option<String> {
    let wanted = snapshot.wanted(release, name);
    let processes = template::processes(release);
    let done = |instance: &&&InstanceStatus| {
        instance.ready
            || processes
                .get(name)
                .is_some_and(|process| finished(process, instance))
    };
    let ready = instances.iter().filter(done).count();
    if ready >= wanted as usize {
        return None;
    }
    let unplaced = status
        .map(|status| status.unplaced.iter())
        .into_iter()
        .flatten();
    let unplaced = unplaced
        .filter(|unplaced| unplaced.release == release.spec.version)
        .flat_map(|u| u.reasons.clone());
    let mut reasons: Vec<String> = instances
        .iter()
        .filter_map(|instance| instance.reason.clone())
        .chain(unplaced)
        .collect();
    reasons.sort();
    reasons.dedup();
    let reasons = if reasons.is_empty() {
        String::new()
    } else {
        format!(": {}", reasons.join(", "))
    };
    Some(format!(
        "process {name} has {ready} of {wanted} instances ready{reasons}"
    ))
}
