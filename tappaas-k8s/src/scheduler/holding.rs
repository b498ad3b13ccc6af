//! One writer for a volume, whatever its storage allows: pods that write to it keep each other away by a label.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Pod, PodAffinityTerm, PodAntiAffinity};
use kube::{ResourceExt as _, api::ListParams};
use tappaas_core::{
    Result,
    backend::{Mount, WorkloadId},
};

use super::{KubernetesScheduler, names, observing, placing::obstacle};
use crate::failure::{failure, within};

/// Before the name of a claim that a pod writes to.
const HOLDS: &str = "holds.tappaas.dev/";
/// What all nodes that pods can run on agree in: of two writers the second finds none. `ReadWriteOnce` speaks of nodes, and lets all pods
/// of one node write.
const EVERYWHERE: &str = "kubernetes.io/os";

/// The labels of a pod that say what it writes to.
pub(super) fn labels(mounts: &[Mount]) -> impl Iterator<Item = (String, String)> {
    let written = mounts.iter().filter(|mount| !mount.read_only);
    written.map(|mount| (label(mount), String::new()))
}

/// Keeps a pod off the cluster as long as another one writes to what it writes to.
pub(super) fn affinity(mounts: &[Mount]) -> Option<Affinity> {
    let term = |label| PodAffinityTerm {
        label_selector: Some(names::selector(BTreeMap::from([label]))),
        topology_key: EVERYWHERE.to_owned(),
        ..PodAffinityTerm::default()
    };
    let terms: Vec<_> = labels(mounts).map(term).collect();
    (!terms.is_empty()).then(|| Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(terms),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    })
}

impl KubernetesScheduler {
    /// For pods that no node takes because others write to their volumes: the pod's name, and who does.
    pub(super) async fn waiting(
        &self,
        id: &WorkloadId,
        pods: &[Pod],
    ) -> Result<BTreeMap<String, String>> {
        let mut waiting = BTreeMap::new();
        for pod in pods.iter().filter(|pod| obstacle(pod).is_some()) {
            for label in pod.labels().keys() {
                let Some(claim) = label.strip_prefix(HOLDS) else {
                    continue;
                };
                if let Some(holder) = self.holder(id, label).await? {
                    let why = format!("volume {claim} is held by {holder}");
                    waiting.insert(pod.name_any(), why);
                }
            }
        }
        Ok(waiting)
    }

    /// The pod that has a place, and a label.
    async fn holder(&self, id: &WorkloadId, label: &str) -> Result<Option<String>> {
        let request = ListParams::default().labels(label);
        let found = within(self.api::<Pod>(id).list(&request)).await;
        let found =
            found.map_err(|error| failure(format!("cannot ask who holds up {id}"), error))?;
        let mut placed = found.items.iter().filter(|pod| is_placed(pod));
        Ok(placed.next().map(|pod| observing::instance_id(pod).0))
    }
}

fn is_placed(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.is_some() && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn label(mount: &Mount) -> String {
    format!("{HOLDS}{}", names::claim(&mount.volume))
}
