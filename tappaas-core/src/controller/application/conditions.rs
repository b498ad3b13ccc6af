use super::{Snapshot, routes, target::Target};
use crate::model::{Condition, ConditionKind, Phase, Truth, Verdict};

/// What is known about an application, for programs that wait for it.
pub(super) fn conditions(
    snapshot: &Snapshot,
    target: &Target<'_>,
    phase: Phase,
    message: &str,
) -> Vec<Condition> {
    let metadata = &snapshot.application.metadata;
    let known = &snapshot.application.status.conditions;
    let condition = |kind, verdict: Verdict| {
        Condition::of(kind, verdict, metadata.generation, known, snapshot.now)
    };
    let (ready, reason) = ready(phase, message.is_empty());
    let mut conditions = vec![
        condition(ConditionKind::Built, built(target)),
        condition(ConditionKind::Ready, (ready, reason, message.to_owned())),
    ];
    if !snapshot.spec().autoscale.is_empty() {
        conditions.push(condition(ConditionKind::Autoscaled, autoscaled(snapshot)));
    }
    conditions
}

/// Whether the processes that are to be autoscaled are.
fn autoscaled(snapshot: &Snapshot) -> Verdict {
    let each = snapshot.spec().autoscale.iter();
    if !snapshot.autoscaling {
        let each = each.map(|(name, it)| format!("process {name} runs {}", it.bounded().min));
        let each = each.collect::<Vec<_>>().join(", ");
        let message = format!("this platform's scheduler does not autoscale: {each}, its minimum");
        return (Truth::False, "Unsupported", message);
    }
    let known: Vec<_> = each
        .map(|(name, _)| {
            let status = snapshot.workloads.get(&routes::workload(snapshot, name));
            (name, status.and_then(|status| status.autoscaling.as_ref()))
        })
        .collect();
    let hindrances = known.iter().filter_map(|(name, it)| {
        let hindrance = it.as_ref()?.hindrance.as_ref()?;
        Some(format!("process {name}: {hindrance}"))
    });
    let hindrances: Vec<_> = hindrances.collect();
    if !hindrances.is_empty() {
        return (Truth::Unknown, "Hindered", hindrances.join("; "));
    }
    match known.iter().all(|(_, it)| it.is_some()) {
        true => (Truth::True, "Autoscaled", String::new()),
        false => (Truth::Unknown, "Pending", String::new()),
    }
}

fn built(target: &Target<'_>) -> Verdict {
    match target {
        Target::Building(message) => (Truth::Unknown, "Building", message.clone()),
        Target::Refused(refusal) => (Truth::False, refusal.reason, refusal.message.clone()),
        Target::Release(release) => (Truth::True, "Built", release.spec.image.to_string()),
    }
}

/// Whether what is wanted runs. What is still being done may come well.
fn ready(phase: Phase, all: bool) -> (Truth, &'static str) {
    match phase {
        Phase::Pending => (Truth::Unknown, "Pending"),
        Phase::Building => (Truth::Unknown, "Building"),
        Phase::Releasing => (Truth::Unknown, "Releasing"),
        Phase::RollingOut => (Truth::Unknown, "RollingOut"),
        Phase::Running if all => (Truth::True, "Running"),
        Phase::Running => (Truth::False, "Degraded"),
        Phase::Failed => (Truth::False, "Failed"),
        Phase::Destroying => (Truth::False, "Destroying"),
    }
}
