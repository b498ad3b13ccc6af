//! Instances that run on nodes of a kind, or with a priority.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Node as KubernetesNode, Pod},
    scheduling::v1::PriorityClass,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tappaas_core::{backend::Scheduler as _, model::Runtime, placement::Toleration};
use tappaas_k8s::{KubernetesScheduler, RuntimeNodes, SchedulerSettings};
use tappaas_testkit::conformance::{scheduler::Stage, until};

use crate::{
    cluster::{client, facts, platform},
    node::{Node, WallClock},
};

const LABEL: &str = "runtimes.tests/kind";

/// The scheduler as somebody configures it who has nodes of a kind.
async fn configured(settings: SchedulerSettings) -> KubernetesScheduler {
    KubernetesScheduler::new(client().await, platform(), settings, Arc::new(WallClock))
}

fn of(value: &str, resource: Option<(String, u32)>) -> RuntimeNodes {
    RuntimeNodes {
        labels: BTreeMap::from([(LABEL.to_owned(), value.to_owned())]),
        tolerations: vec![Toleration {
            key: LABEL.to_owned(),
            value: Some(value.to_owned()),
        }],
        resource,
    }
}

/// Changes the one real node.
async fn change(patch: &Value, subresource: Option<&str>) {
    let nodes: Api<KubernetesNode> = Api::all(client().await);
    let facts = facts();
    let name = facts["node"].as_str().unwrap();
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
    match subresource {
        None => nodes.patch(name, &parameters, &patch).await.unwrap(),
        Some(_) => nodes.patch_status(name, &parameters, &patch).await.unwrap(),
    };
}

#[tokio::test]
async fn a_runtime_leads_to_its_nodes_with_its_device() {
    let node = Node::take().await;
    let device = "devices.tests/gpu";
    let settings = SchedulerSettings {
        runtimes: BTreeMap::from([(Runtime::Gpu, of("gpu", Some((device.to_owned(), 2))))]),
        ..Node::settings()
    };
    let scheduler = configured(settings).await;
    let mut stage = Stage::new(&node);
    let mut template = stage.serving("a").await;
    template.placement.runtime = Runtime::Gpu;
    let workload = stage.next_of(1, 1, &template);
    scheduler.apply(&workload).await.unwrap();
    let unplaced = stage.until("no node is of that kind", |status| {
        let mut reasons = status.unplaced.iter().flat_map(|it| &it.reasons);
        reasons.any(|reason| reason.contains("node"))
    });
    unplaced.await.unwrap();
    // Others keep away from it; the gateway is there already.
    let taint = json!({ "key": LABEL, "value": "gpu", "effect": "NoSchedule" });
    change(&json!({ "metadata": { "labels": { LABEL: "gpu" } } }), None).await;
    change(&json!({ "spec": { "taints": [taint] } }), None).await;
    let has = json!({ "status": { "capacity": { device: "2" }, "allocatable": { device: "2" } } });
    change(&has, Some("status")).await;
    let ready = stage.ready(1).await;
    change(&json!({ "spec": { "taints": null } }), None).await;
    change(&json!({ "metadata": { "labels": { LABEL: null } } }), None).await;
    let gone =
        json!({ "status": { "capacity": { device: null }, "allocatable": { device: null } } });
    change(&gone, Some("status")).await;
    ready.unwrap();
    let pods: Api<Pod> = Api::all(client().await);
    let request = ListParams::default().labels("tappaas.dev/tenant=conformance");
    let pod = pods.list(&request).await.unwrap().items.remove(0);
    let spec = pod.spec.as_ref().unwrap();
    let limits = spec.containers[0].resources.as_ref().unwrap();
    assert_eq!(limits.limits.as_ref().unwrap()[device].0, "2");
    assert_eq!(
        spec.node_selector.as_ref().unwrap()[LABEL],
        "gpu",
        "{}",
        pod.name_any()
    );
    // Another runtime is refused by its name.
    template.placement.runtime = Runtime::Edge;
    let workload = stage.next_of(2, 1, &template);
    let refused = scheduler.apply(&workload).await.unwrap_err();
    assert!(refused.to_string().contains("`edge`"), "{refused}");
    assert!(refused.to_string().contains("standard, gpu"), "{refused}");
    scheduler.remove(&stage.id).await.unwrap();
    until("it is gone", async || {
        let left = scheduler.list().await?;
        Ok((!left.contains(&stage.id)).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn instances_have_the_priority_class_once_it_is_there() {
    let node = Node::take().await;
    let classes: Api<PriorityClass> = Api::all(client().await);
    let (name, parameters) = ("tests-tenants", DeleteParams::default());
    // What a run before left.
    classes.delete(name, &parameters).await.ok();
    let settings = SchedulerSettings {
        priority_class: Some(name.to_owned()),
        ..Node::settings()
    };
    let scheduler = configured(settings).await;
    let mut stage = Stage::new(&node);
    let template = stage.serving("a").await;
    let workload = stage.next_of(1, 1, &template);
    scheduler.apply(&workload).await.unwrap();
    let unplaced = stage.until("the class is missing", |status| {
        let mut reasons = status.unplaced.iter().flat_map(|it| &it.reasons);
        let says = "the cluster refuses its pod: no PriorityClass with name tests-tenants";
        reasons.any(|reason| reason.starts_with(says))
    });
    unplaced.await.unwrap();
    let class = PriorityClass {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        value: 7,
        ..PriorityClass::default()
    };
    let made = PostParams::default();
    classes.create(&made, &class).await.unwrap();
    stage.ready(1).await.unwrap();
    let pods: Api<Pod> = Api::all(client().await);
    let request = ListParams::default().labels("tappaas.dev/tenant=conformance");
    let pod = pods.list(&request).await.unwrap().items.remove(0);
    assert_eq!(pod.spec.unwrap().priority, Some(7));
    classes.delete(name, &parameters).await.unwrap();
}
