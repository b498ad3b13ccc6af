//! Pods that have no place, and why.

use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1::DeploymentStatus, core::v1::Pod};
use kube::ResourceExt as _;
use tappaas_core::backend::Unplaced;

use super::{applying::Recorded, observing::release};

/// Why no node takes a pod.
pub(super) fn obstacle(pod: &Pod) -> Option<&str> {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut obstacles = conditions.filter(|one| {
        one.type_ == "PodScheduled"
            && one.status == "False"
            && one.reason.as_deref() == Some("Unschedulable")
    });
    let leaving = pod.metadata.deletion_timestamp.is_some();
    let obstacle = obstacles.next().filter(|_| !leaving)?;
    Some(obstacle.message.as_deref().unwrap_or("no node takes it"))
}

/// What has no place, by release, but for the pods that wait for others.
pub(super) fn unplaced(
    last: &Recorded,
    pods: &[Pod],
    waiting: &BTreeMap<String, String>,
) -> Vec<Unplaced> {
    let mut unplaced = BTreeMap::<u64, Unplaced>::new();
    for pod in pods
        .iter()
        .filter(|pod| !waiting.contains_key(&pod.name_any()))
    {
        let Some(why) = obstacle(pod) else { continue };
        let release = release(pod.labels());
        let of_release = unplaced.entry(release).or_insert_with(|| Unplaced {
            release,
            missing: 0,
            reasons: Vec::new(),
        });
        of_release.missing += 1;
        if !of_release.reasons.iter().any(|reason| reason == why) {
            of_release.reasons.push(why.to_owned());
        }
    }
    unplaced.into_values().chain(refused(last, pods)).collect()
}

/// Pods that the cluster does not even let be made: no quota is left, or a policy is against them.
fn refused(last: &Recorded, pods: &[Pod]) -> Option<Unplaced> {
    let status = serde_json::from_value::<DeploymentStatus>(last.object.data["status"].clone());
    let conditions = status.ok()?.conditions.unwrap_or_default();
    let failed = |type_: &str, status: &str| type_ == "ReplicaFailure" && status == "True";
    let refusal = conditions
        .into_iter()
        .find(|one| failed(&one.type_, &one.status))?;
    let (release, count) = last.record.counts.iter().next()?;
    let made = pods
        .iter()
        .filter(|pod| self::release(pod.labels()) == *release)
        .count();
    let missing = count.saturating_sub(u32::try_from(made).unwrap_or(u32::MAX));
    (missing > 0).then(|| Unplaced {
        release: *release,
        missing,
        reasons: refusal.message.into_iter().collect(),
    })
}
