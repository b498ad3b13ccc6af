//! Pods that have no place, and why.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tappaas_core::backend::Unplaced;

use super::observing::release;

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
pub(super) fn unplaced(pods: &[Pod], waiting: &BTreeMap<String, String>) -> Vec<Unplaced> {
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
    unplaced.into_values().collect()
}
