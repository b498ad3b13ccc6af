use std::collections::BTreeSet;

use super::{
    Snapshot, Step,
    plan::{self, Draft},
    routes, template,
};
use crate::{
    Name,
    backend::{InstanceState, ReleaseSet, Workload, WorkloadId, WorkloadStatus},
    model::{Command, Release, ReleasePhase},
};

/// Runs the release command as a workload of its own, in which nothing of another release is left: so none ever runs beside another.
pub(super) fn run(snapshot: &Snapshot, release: &Release, command: &Command, draft: &mut Draft) {
    let (id, status) = workload(snapshot);
    let version = release.spec.version;
    let is_empty =
        |status: &WorkloadStatus| status.instances.is_empty() && status.counts.is_empty();
    if status.is_some_and(|status| status.counts.contains_key(&version)) {
        draft.message = Some("the release command runs".to_owned());
        judge(snapshot, release, draft);
    } else if status.is_none_or(is_empty) {
        draft.message = Some("the release command runs".to_owned());
        let set = ReleaseSet {
            release: version,
            count: 1,
            retiring: BTreeSet::new(),
            template: template::release_template(snapshot, release, command),
        };
        draft.steps.push(apply(id, status, vec![set]));
    } else {
        draft.message = Some("the release command of an earlier release stops".to_owned());
        let open = "the release command of an earlier release did not stop";
        plan::overdue(snapshot, release, open, draft);
    }
}

/// Ends every release command but that of a release that waits for it. What it wrote stays readable.
pub(super) fn stop(snapshot: &Snapshot, draft: &mut Draft) {
    let (id, status) = workload(snapshot);
    let waits = |release: &&Release| {
        release.status.phase == ReleasePhase::Pending && release.status.command.is_none()
    };
    let newest = snapshot.releases.last().filter(waits);
    let wanted = newest.map(|release| release.spec.version);
    let over = |status: &WorkloadStatus| status.counts.keys().any(|of| Some(*of) != wanted);
    if status.is_some_and(over) {
        draft.steps.push(apply(id, status, Vec::new()));
    }
}

fn workload(snapshot: &Snapshot) -> (WorkloadId, Option<&WorkloadStatus>) {
    let name = Name::new(template::RELEASE_PROCESS).expect("`release` is a name");
    let id = routes::workload(snapshot, &name);
    let status = snapshot.workloads.get(&id);
    (id, status)
}

fn apply(id: WorkloadId, status: Option<&WorkloadStatus>, releases: Vec<ReleaseSet>) -> Step {
    Step::ApplyWorkload(Box::new(Workload {
        id,
        generation: status.map_or(0, |status| status.generation) + 1,
        releases,
        rollout: None,
        autoscale: None,
    }))
}

/// Says how the release command ended, once it did.
fn judge(snapshot: &Snapshot, release: &Release, draft: &mut Draft) {
    let (_, status) = workload(snapshot);
    let mut instances = status.into_iter().flat_map(|status| &status.instances);
    let ended = instances.find(|instance| {
        instance.release == release.spec.version && instance.state == InstanceState::Exited
    });
    match ended.and_then(|instance| instance.exit.as_ref()) {
        Some(exit) if exit.success() => plan::judge(release, draft, |status| {
            status.command = Some(true);
        }),
        Some(exit) => {
            let told = ended.and_then(|instance| instance.reason.clone());
            // With what it wrote last, where that is known.
            let how = told.filter(|told| told.starts_with(&exit.to_string()));
            let how = how.unwrap_or_else(|| exit.to_string());
            let reason = format!("the release command {how}");
            plan::fail(snapshot, release, draft, reason);
        }
        None => {
            let unplaced = status.into_iter().flat_map(|status| &status.unplaced);
            let reasons: Vec<_> = unplaced.flat_map(|it| it.reasons.clone()).collect();
            let open = match reasons.as_slice() {
                [] => "the release command did not end".to_owned(),
                reasons => format!(
                    "the release command did not run: {}; not so",
                    reasons.join(", ")
                ),
            };
            plan::overdue(snapshot, release, &open, draft);
        }
    }
}
