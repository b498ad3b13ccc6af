//! Workloads whose count is an autoscaler's. Nothing on the cluster measures what they use, so it does what it does without.

use k8s_openapi::api::{
    apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use tappaas_core::{
    ErrorKind,
    backend::{Template, WorkloadStatus},
    model::{Autoscale, RestartPolicy},
};
use tappaas_testkit::conformance::scheduler::Stage;

use crate::{cluster::client, node::Node};

const BOUNDS: Autoscale = Autoscale {
    min: 2,
    max: 5,
    cpu_percent: 70,
};

/// A workload and the objects that it has on the cluster.
struct Scaled<'a> {
    stage: Stage<'a>,
    deployments: Api<Deployment>,
    scalers: Api<HorizontalPodAutoscaler>,
    budgets: Api<PodDisruptionBudget>,
    name: String,
}

async fn serving(stage: &Stage<'_>, name: &str) -> Template {
    let mut template = stage.serving(name).await;
    template.resources.cpu_millis = Some(50);
    template.placement.requests = template.resources;
    template
}

impl<'a> Scaled<'a> {
    async fn new(node: &'a Node) -> Self {
        let mut stage = Stage::new(node);
        let template = serving(&stage, "one").await;
        stage.autoscale(1, BOUNDS, &template).await.unwrap();
        let (_, deployment) = node.deployment(&stage.id.application).await;
        let (client, namespace) = (client().await, deployment.namespace().unwrap());
        Self {
            stage,
            deployments: Api::namespaced(client.clone(), &namespace),
            scalers: Api::namespaced(client.clone(), &namespace),
            budgets: Api::namespaced(client, &namespace),
            name: deployment.name_any(),
        }
    }

    /// Sets the count as an autoscaler does, or a person.
    async fn scale(&self, count: u32) {
        let patch = Patch::Merge(json!({ "spec": { "replicas": count } }));
        let parameters = PatchParams::default();
        let scaled = self
            .deployments
            .patch_scale(&self.name, &parameters, &patch);
        scaled.await.unwrap();
    }

    async fn count(&self) -> i32 {
        let deployment = self.deployments.get(&self.name).await.unwrap();
        deployment.spec.unwrap().replicas.unwrap()
    }

    async fn drifts(&self, words: &str) {
        let drifts = |status: &WorkloadStatus| {
            let drift = status.drift.as_deref().unwrap_or_default();
            drift.contains(words)
        };
        self.stage.until("it drifts", drifts).await.unwrap();
    }
}

#[tokio::test]
async fn a_count_that_an_autoscaler_set_stays_whatever_is_applied() {
    let node = Node::take().await;
    let mut scaled = Scaled::new(&node).await;
    scaled.stage.ready(2).await.unwrap();
    let scaler = scaled.scalers.get(&scaled.name).await.unwrap();
    let owners = scaler.metadata.owner_references.unwrap();
    let deployment = scaled.deployments.get(&scaled.name).await.unwrap();
    assert_eq!(Some(&owners[0].uid), deployment.metadata.uid.as_ref());
    let budget = scaled.budgets.get(&scaled.name).await.unwrap();
    assert!(budget.spec.unwrap().max_unavailable.is_some());

    scaled.scale(4).await;
    scaled.stage.ready(4).await.unwrap();
    let status = scaled.stage.status().await.unwrap();
    assert_eq!(status.autoscaling.unwrap().wanted, 4);
    assert_eq!((status.counts[&1], status.drift), (2, None));
    let next = serving(&scaled.stage, "two").await;
    scaled.stage.autoscale(2, BOUNDS, &next).await.unwrap();
    assert_eq!(scaled.count().await, 4);
    let replaced = scaled.stage.until("four are of release 2", |status| {
        let mut instances = status.instances.iter();
        status.instances.len() == 4 && instances.all(|one| one.ready && one.release == 2)
    });
    replaced.await.unwrap();

    // Below the fewest the autoscaler itself sets it right.
    scaled.scale(1).await;
    scaled.stage.ready(2).await.unwrap();
    let stage = &mut scaled.stage;
    stage.apply(&[(2, 3, &next)]).await.unwrap();
    assert_eq!(scaled.count().await, 3);
    let left = scaled.scalers.get_opt(&scaled.name).await.unwrap();
    assert!(left.is_none_or(|left| left.metadata.deletion_timestamp.is_some()));
    scaled.stage.ready(3).await.unwrap();
}

#[tokio::test]
async fn what_somebody_changed_of_an_autoscaler_is_told_and_set_right() {
    let node = Node::take().await;
    let mut scaled = Scaled::new(&node).await;
    let template = serving(&scaled.stage, "one").await;
    let parameters = DeleteParams::default();
    scaled
        .scalers
        .delete(&scaled.name, &parameters)
        .await
        .unwrap();
    scaled.drifts("HorizontalPodAutoscaler").await;
    scaled.stage.autoscale(1, BOUNDS, &template).await.unwrap();
    let more = Patch::Merge(json!({ "spec": { "maxReplicas": 50 } }));
    let parameters = PatchParams::default();
    let patched = scaled.scalers.patch(&scaled.name, &parameters, &more).await;
    patched.unwrap();
    scaled.drifts("spec.maxReplicas").await;
    scaled.stage.autoscale(1, BOUNDS, &template).await.unwrap();
    // Which turns it off.
    scaled.scale(0).await;
    scaled.drifts("turns its autoscaler off").await;
    scaled.stage.autoscale(1, BOUNDS, &template).await.unwrap();
    scaled.stage.ready(2).await.unwrap();
    scaled.stage.apply(&[]).await.unwrap();
    scaled.stage.empty().await.unwrap();
    let status = scaled.stage.status().await.unwrap();
    assert_eq!((status.autoscaling, status.drift), (None, None));
    scaled.stage.autoscale(2, BOUNDS, &template).await.unwrap();
    scaled.stage.ready(2).await.unwrap();
}

#[tokio::test]
async fn what_runs_once_cannot_be_autoscaled() {
    let node = Node::take().await;
    let mut stage = Stage::new(&node);
    let mut template = serving(&stage, "one").await;
    template.restart = RestartPolicy::Never;
    let refused = stage.autoscale(1, BOUNDS, &template).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
}
