//! Two platforms on one cluster, whose tenants have the same names.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tappaas_core::{
    ErrorKind, Name,
    backend::{
        IngressProvider as _, Scheduler as _, Secret, SecretPath, SecretPrecondition,
        SecretStore as _, Volume, VolumeId, Volumes as _,
    },
    model::Limits,
};
use tappaas_k8s::{
    KubernetesIngress, KubernetesScheduler, KubernetesSecrets, KubernetesVolumes, PlatformId,
    VolumeSettings,
};
use tappaas_testkit::conformance::{ingress::Scene, scheduler::Stage, until};

use crate::{
    cluster::{client, platform},
    node::{Node, WallClock, empty},
    stage::{self, by_gateway},
    storage::Storage,
};

/// The platform that is none of these suites'.
fn other() -> PlatformId {
    PlatformId::of_group("neighbour.tappaas.dev")
}

async fn theirs() -> KubernetesScheduler {
    let settings = Node::settings();
    let theirs = KubernetesScheduler::new(client().await, other(), settings, Arc::new(WallClock));
    empty(&theirs, |_| true).await;
    theirs
}

#[tokio::test]
async fn a_workload_is_seen_and_removed_by_its_own_platform_alone() {
    let (node, theirs) = (Node::take().await, theirs().await);
    let mut stage = Stage::new(&node);
    let template = stage.serving("ours").await;
    let workload = stage.next_of(1, 1, &template);
    node.scheduler.apply(&workload).await.unwrap();
    stage.ready(1).await.unwrap();

    // Whatever a platform's store does not know of it removes, if it lists it.
    assert_eq!(theirs.list().await.unwrap(), []);
    assert!(theirs.observe(&stage.id).await.unwrap().is_none());
    theirs.apply(&workload).await.unwrap();
    assert_eq!(theirs.list().await.unwrap(), [stage.id.clone()]);
    theirs.remove(&stage.id).await.unwrap();
    empty(&theirs, |_| true).await;
    let environment = stage.id.application.scope();
    until("their environment is gone", async || {
        Ok(theirs.discard(&environment).await.ok())
    })
    .await
    .unwrap();
    assert_eq!(node.scheduler.list().await.unwrap(), [stage.id.clone()]);
    stage.ready(1).await.unwrap();
    empty(&node.scheduler, |_| true).await;
}

#[tokio::test]
async fn a_namespace_of_another_platform_is_neither_taken_nor_removed() {
    let (node, theirs) = (Node::take().await, theirs().await);
    let mut environment = Stage::new(&node).id.application;
    environment.environment = Name::new("disputed").unwrap();
    let (environment, none) = (environment.scope(), Limits::default());
    let name = theirs.prepare(&environment, &none).await.unwrap().unwrap();
    let own = node.scheduler.prepare(&environment, &none).await.unwrap();
    assert_ne!(own, Some(name.clone()));
    let namespaces: Api<Namespace> = Api::all(client().await);
    let label = async |of: &PlatformId| {
        let labels = json!({ "metadata": { "labels": { "tappaas.dev/platform": of.as_str() } } });
        let patch = Patch::Merge(labels);
        let parameters = PatchParams::default();
        namespaces.patch(&name, &parameters, &patch).await.unwrap();
    };
    // Whoever writes labels by hand makes nothing ours: its name is theirs.
    label(&platform()).await;
    let refused = theirs.prepare(&environment, &none).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
    let said = format!(
        "is labelled tappaas.dev/platform={}, and this platform is {}",
        platform(),
        other()
    );
    let message = refused.to_string();
    assert!(
        message.contains(&name) && message.contains(&said),
        "{message}"
    );
    theirs.discard(&environment).await.unwrap();
    namespaces.get(&name).await.unwrap();
    label(&other()).await;
    for scheduler in [&theirs, &*node.scheduler] {
        until("the environment is gone", async || {
            Ok(scheduler.discard(&environment).await.ok())
        })
        .await
        .unwrap();
    }
    let ours = ListParams::default().labels("tappaas.dev/environment=disputed");
    assert_eq!(namespaces.list(&ours).await.unwrap().items, []);
}

#[tokio::test]
async fn a_route_is_removed_by_its_own_platform_alone_and_its_host_is_taken_for_all() {
    let stage = stage::Stage::take(by_gateway()).await;
    let theirs =
        KubernetesIngress::connect(client().await, other(), by_gateway(), Arc::new(WallClock))
            .await;
    let theirs = theirs.unwrap();
    for left in theirs.list().await.unwrap() {
        theirs.remove(&left).await.unwrap();
    }
    let mut scene = Scene::new(&stage);
    scene.to(&[]).await.unwrap();
    assert_eq!(theirs.list().await.unwrap(), []);
    assert!(theirs.observe(&scene.route.id).await.unwrap().is_none());
    theirs.remove(&scene.route.id).await.unwrap();
    let refused = theirs.apply(&scene.route).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");

    let elsewhere = Scene::of(&stage, "main", "neighbour.example.com", "/").route;
    theirs.apply(&elsewhere).await.unwrap();
    assert_eq!(
        theirs.list().await.unwrap(),
        std::slice::from_ref(&elsewhere.id)
    );
    let own = scene.ingress.list().await.unwrap();
    assert_eq!(own, [scene.route.id.clone()]);
    theirs.remove(&elsewhere.id).await.unwrap();
    scene.status().await.unwrap();
    scene.ingress.remove(&scene.route.id).await.unwrap();
}

#[tokio::test]
async fn a_volume_is_seen_and_removed_by_its_own_platform_alone() {
    let _node = Node::take().await;
    let ours = Storage::new().await;
    let theirs = KubernetesVolumes::new(client().await, other(), VolumeSettings::default());
    let volume = Volume {
        id: VolumeId {
            application: "conformance/default/test/app".parse().unwrap(),
            name: Name::new("data").unwrap(),
        },
        size: None,
    };
    ours.volumes.apply(&volume).await.unwrap();
    assert_eq!(theirs.list().await.unwrap(), []);
    theirs.remove(&volume.id).await.unwrap();
    theirs.apply(&volume).await.unwrap();
    assert_eq!(
        theirs.list().await.unwrap(),
        std::slice::from_ref(&volume.id)
    );
    theirs.remove(&volume.id).await.unwrap();
    assert_eq!(
        ours.volumes.list().await.unwrap(),
        std::slice::from_ref(&volume.id)
    );
    ours.volumes.remove(&volume.id).await.unwrap();
}

#[tokio::test]
async fn a_secret_is_seen_and_removed_by_its_own_platform_alone() {
    let client = client().await;
    let [ours, theirs] = [platform(), other()]
        .map(|platform| KubernetesSecrets::new(client.clone(), platform, "default"));
    let path = SecretPath::new("neighbours/token").unwrap();
    let any = SecretPrecondition::Any;
    ours.put(&path, &Secret::new("ours"), any).await.unwrap();
    assert!(theirs.get(&path, None).await.unwrap().is_none());
    assert_eq!(theirs.list("").await.unwrap(), []);
    theirs
        .put(&path, &Secret::new("theirs"), any)
        .await
        .unwrap();
    theirs.delete(&path).await.unwrap();
    let found = ours.get(&path, None).await.unwrap().unwrap();
    assert_eq!(found.value.expose(), b"ours");
    ours.delete(&path).await.unwrap();
}
