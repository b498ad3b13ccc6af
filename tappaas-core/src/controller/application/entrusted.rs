use std::collections::{BTreeMap, BTreeSet};

use super::{Snapshot, Step, rolling::Move, routes, template};
use crate::{
    Name,
    backend::{ReleaseSet, Workload, WorkloadStatus},
    model::Release,
};

/// Plans one process's next move where the scheduler rolls by itself: it is told what to run in the end, and of whom that is.
///
/// Instances come and go without the routes, which lead to the workload as a whole.
pub(super) fn next_move<'a>(
    snapshot: &'a Snapshot,
    name: &Name,
    goal: Option<&Release>,
) -> Move<'a> {
    let status = snapshot.workloads.get(&routes::workload(snapshot, name));
    let serving = status.map(|status| &status.endpoints);
    Move {
        serving: serving.into_iter().collect(),
        step: step(snapshot, name, goal),
        ..Move::default()
    }
}

fn step(snapshot: &Snapshot, name: &Name, goal: Option<&Release>) -> Option<Step> {
    let id = routes::workload(snapshot, name);
    let status = snapshot.workloads.get(&id);
    let process = goal.and_then(|goal| Some((goal, template::processes(goal).remove(name)?)));
    let wanted = process.map(|(goal, process)| ReleaseSet {
        release: goal.spec.version,
        count: snapshot.count(goal, name),
        retiring: BTreeSet::new(),
        template: template::template(snapshot, goal, name, &process),
    });
    let counts: BTreeMap<u64, u32> = wanted.iter().map(|set| (set.release, set.count)).collect();
    if counts.is_empty() && status.is_none_or(|status| status.instances.is_empty()) {
        return status.map(|_| Step::RemoveWorkload(id));
    }
    let autoscale = goal.and_then(|goal| snapshot.autoscale(goal, name));
    let as_wanted = |status: &WorkloadStatus| {
        let bounds = status.autoscaling.as_ref().map(|it| it.bounds);
        status.counts == counts && bounds == autoscale && status.drift.is_none()
    };
    if status.is_some_and(as_wanted) {
        return None;
    }
    // Without the address of a binding nothing starts.
    if goal.is_some_and(|goal| snapshot.unreached(goal).is_some()) {
        return None;
    }
    let mut workload = Workload {
        id,
        generation: status.map_or(0, |status| status.generation),
        releases: wanted.into_iter().collect(),
        rollout: goal.map(|goal| goal.spec.content.rollout.clone()),
        autoscale,
    };
    // What somebody else changed is applied again as it was: no news, if it cannot be changed back.
    if status.is_none_or(|status| status.content != workload.content()) {
        workload.generation += 1;
    }
    Some(Step::ApplyWorkload(Box::new(workload)))
}
