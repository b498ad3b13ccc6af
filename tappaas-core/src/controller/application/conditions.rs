use super::{Snapshot, target::Target};
use crate::model::{Condition, ConditionKind, Phase, Truth};

/// What is known about an application, for programs that wait for it.
pub(super) fn conditions(
    snapshot: &Snapshot,
    target: &Target<'_>,
    phase: Phase,
    message: &str,
) -> Vec<Condition> {
    let metadata = &snapshot.application.metadata;
    let known = &snapshot.application.status.conditions;
    let condition = |kind, (status, reason, message): (Truth, &str, String)| {
        let condition = Condition {
            kind,
            status,
            reason: reason.to_owned(),
            message,
            observed_generation: metadata.generation,
            last_transition_time: snapshot.now,
        };
        condition.since(known, snapshot.now)
    };
    let (ready, reason) = ready(phase, message.is_empty());
    vec![
        condition(ConditionKind::Built, built(target)),
        condition(ConditionKind::Ready, (ready, reason, message.to_owned())),
    ]
}

fn built(target: &Target<'_>) -> (Truth, &'static str, String) {
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
