//! Routes that Contour and Envoy serve.

use std::{sync::Arc, time::Duration};

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::json;
use tappaas_core::{
    ErrorKind,
    backend::{Action, Endpoint, IngressProvider as _, Target},
};
use tappaas_k8s::{IngressSettings, KubernetesIngress};
use tappaas_testkit::conformance::{
    ingress::{IngressFixture as _, Scene},
    until,
};

use crate::{
    cluster::{client, platform},
    node::WallClock,
    stage::{Stage, by_class, by_gateway, http_routes},
};

mod gateway {
    tappaas_testkit::ingress_conformance!(
        crate::stage::Stage::take(crate::stage::by_gateway()).await
    );
}

mod class {
    tappaas_testkit::ingress_conformance!(
        crate::stage::Stage::take(crate::stage::by_class()).await
    );
}

const HOST: &str = "own.example.com";

fn routes(stage: &Stage) -> Api<DynamicObject> {
    let client = stage.client.0.clone();
    Api::namespaced_with(client, &stage.namespace, &http_routes())
}

/// The only object there is.
async fn only(stage: &Stage) -> DynamicObject {
    let found = routes(stage).list(&kube::api::ListParams::default()).await;
    let [object] = <[DynamicObject; 1]>::try_from(found.unwrap().items).unwrap();
    object
}

fn forward(endpoint: Endpoint) -> Action {
    Action::Forward {
        targets: vec![Target {
            weight: 1,
            endpoints: vec![endpoint],
        }],
        strip_prefix: false,
        hold: Duration::ZERO,
    }
}

async fn edit(stage: &Stage, patch: serde_json::Value) {
    let name = only(stage).await.metadata.name.unwrap();
    let parameters = PatchParams {
        field_manager: Some("somebody".to_owned()),
        ..PatchParams::default()
    };
    let (routes, patch) = (routes(stage), Patch::Merge(&patch));
    routes.patch(&name, &parameters, &patch).await.unwrap();
}

#[tokio::test]
async fn a_route_that_somebody_edited_is_pending_until_it_is_applied_again() {
    let stage = Stage::take(by_gateway()).await;
    let mut scene = Scene::of(&stage, "edited", HOST, "/");
    let server = scene.serve("a").await.unwrap();
    scene.to(&[&server]).await.unwrap();
    edit(
        &stage,
        json!({ "spec": { "hostnames": ["taken.example.com"] } }),
    )
    .await;
    let status = scene.status().await.unwrap();
    assert_eq!(status.generation, 0);
    let pending = status.pending.unwrap();
    assert!(pending.contains("spec.hostnames"), "{pending}");
    scene.ingress.apply(&scene.route).await.unwrap();
    until("the edit is undone", async || {
        let status = scene.status().await?;
        Ok((status.generation == scene.route.generation).then_some(()))
    })
    .await
    .unwrap();
    scene.host_answers(HOST, "/", "a /").await.unwrap();
    let reply = stage.request("taken.example.com", "/").await.unwrap();
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn a_route_that_cannot_be_found_by_its_labels_is_pending() {
    let stage = Stage::take(by_gateway()).await;
    let mut scene = Scene::of(&stage, "unlabelled", HOST, "/");
    scene.to(&[]).await.unwrap();
    edit(
        &stage,
        json!({ "metadata": { "labels": { "tappaas.dev/application": null } } }),
    )
    .await;
    assert_eq!(scene.ingress.list().await.unwrap(), []);
    let pending = scene.status().await.unwrap().pending.unwrap();
    assert!(pending.contains("labels"), "{pending}");
    scene.ingress.apply(&scene.route).await.unwrap();
    assert_eq!(scene.status().await.unwrap().pending, None);
    assert_eq!(scene.ingress.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_switch_that_was_cut_off_is_finished_by_the_next_apply() {
    let stage = Stage::take(by_gateway()).await;
    let mut scene = Scene::of(&stage, "switched", HOST, "/");
    let (one, two) = (
        scene.serve("one").await.unwrap(),
        scene.serve("two").await.unwrap(),
    );
    scene.to(&[&one]).await.unwrap();
    let mut settings = by_gateway();
    settings.settle = Duration::from_secs(60);
    let slow =
        KubernetesIngress::connect(client().await, platform(), settings, Arc::new(WallClock)).await;
    let (slow, mut next) = (slow.unwrap(), scene.route.clone());
    next.generation += 1;
    next.action = forward(two.endpoint.clone());
    let cut_off = tokio::time::timeout(Duration::from_secs(2), slow.apply(&next)).await;
    assert!(cut_off.is_err(), "{cut_off:?}");
    let status = scene.status().await.unwrap();
    assert_eq!(status.route, scene.route);
    let pending = status.pending.unwrap();
    assert!(pending.contains("switched"), "{pending}");
    scene.host_answers(HOST, "/", "one /").await.unwrap();
    scene.to(&[&two]).await.unwrap();
    scene.host_answers(HOST, "/", "two /").await.unwrap();
    let services = &only(&stage).await.data["spec"]["rules"][0]["backendRefs"];
    assert_eq!(services.as_array().unwrap().len(), 1, "{services}");
}

#[tokio::test]
async fn what_others_add_is_kept() {
    let stage = Stage::take(by_gateway()).await;
    let mut scene = Scene::of(&stage, "annotated", HOST, "/");
    scene.to(&[]).await.unwrap();
    edit(
        &stage,
        json!({ "metadata": { "annotations": { "team": "blue" } } }),
    )
    .await;
    scene.to(&[]).await.unwrap();
    let annotations = only(&stage).await.metadata.annotations.unwrap();
    assert_eq!(annotations["team"], "blue");
}

#[tokio::test]
async fn a_service_of_another_namespace_is_denied() {
    let stage = Stage::take(by_gateway()).await;
    let mut scene = Scene::of(&stage, "other", HOST, "/");
    let server = scene.serve("a").await.unwrap();
    let Endpoint::Service { host, port } = &server.endpoint else {
        panic!("{server:?}");
    };
    let foreign = host.replace(&stage.namespace, "kube-system");
    let (host, port) = (foreign, *port);
    scene.route.generation = 1;
    scene.route.action = forward(Endpoint::Service { host, port });
    let refused = scene.ingress.apply(&scene.route).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    assert_eq!(scene.ingress.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_host_of_another_tenant_is_taken_and_nobody_is_told_by_whom() {
    let stage = Stage::take(by_gateway()).await;
    let mut scene = Scene::of(&stage, "first", HOST, "/api");
    scene.to(&[]).await.unwrap();
    let mut rival = scene.route.clone();
    rival.id.application.tenant = "rival".parse().unwrap();
    let refused = scene.ingress.apply(&rival).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
    let told = refused.to_string();
    assert!(
        told.contains(HOST) && !told.contains("conformance"),
        "{told}"
    );
    assert_eq!(scene.ingress.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_route_that_is_not_accepted_says_why() {
    let stage = Stage::take(by_gateway()).await;
    let mut scene = Scene::of(&stage, "refused", HOST, "/");
    let endpoint = Endpoint::Service {
        host: format!("missing.{}.svc", stage.namespace),
        port: 80,
    };
    scene.route.generation = 1;
    scene.route.action = forward(endpoint);
    scene.ingress.apply(&scene.route).await.unwrap();
    let said = until("the Gateway refuses it", async || {
        let status = scene.status().await?;
        assert_eq!(status.generation, 0, "{status:?}");
        Ok(status.pending.filter(|said| said.contains("ResolvedRefs")))
    })
    .await
    .unwrap();
    assert!(said.contains("testbed/testbed"), "{said}");
    // What was refused is mended by the next generation.
    scene.to(&[]).await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_nobody_serves_is_named() {
    let mut settings = by_gateway();
    settings.gateway.as_mut().unwrap().name = "missing".to_owned();
    let stage = Stage::take(by_gateway()).await;
    let mut scene = Scene::of(&stage, "lost", HOST, "/");
    let lost =
        KubernetesIngress::connect(client().await, platform(), settings, Arc::new(WallClock)).await;
    scene.ingress = Arc::new(lost.unwrap());
    scene.route.generation = 1;
    scene.ingress.apply(&scene.route).await.unwrap();
    let status = scene.status().await.unwrap();
    let pending = status.pending.unwrap();
    assert!(pending.contains("testbed/missing"), "{pending}");
    // Other settings find it attached elsewhere: it has to be applied again, as it is.
    scene.ingress = stage.ingress.clone();
    let status = scene.status().await.unwrap();
    assert!(status.is_undone(), "{status:?}");
    scene.ingress.apply(&scene.route).await.unwrap();
    let status = scene.status().await.unwrap();
    assert!(!status.is_undone(), "{status:?}");
}

#[tokio::test]
async fn a_spoilt_route_is_named_and_hides_no_other() {
    let stage = Stage::take(by_gateway()).await;
    let mut scene = Scene::of(&stage, "spoilt", HOST, "/");
    scene.to(&[]).await.unwrap();
    let name = only(&stage).await.metadata.name.unwrap();
    let spoilt = json!({ "metadata": { "annotations": { "tappaas.dev/route": "{" } } });
    edit(&stage, spoilt).await;
    let mut other = Scene::of(&stage, "other", "other.example.com", "/");
    other.to(&[]).await.unwrap();
    let errors = [
        scene.ingress.observe(&scene.route.id).await.unwrap_err(),
        scene.ingress.apply(&scene.route).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
        assert!(error.to_string().contains(&name), "{error}");
    }
    assert_eq!(
        scene.ingress.list().await.unwrap(),
        [other.route.id.clone()]
    );
    scene.ingress.remove(&scene.route.id).await.unwrap();
    scene.to(&[]).await.unwrap();
}

#[tokio::test]
async fn the_last_of_many_generations_at_once_wins() {
    let stage = Stage::take(by_gateway()).await;
    let scene = Scene::of(&stage, "raced", HOST, "/");
    let applying = (1..=8).map(|generation| {
        let (ingress, mut route) = (scene.ingress.clone(), scene.route.clone());
        route.generation = generation;
        async move { ingress.apply(&route).await }
    });
    for applied in futures::future::join_all(applying).await {
        if let Err(error) = applied {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        }
    }
    assert_eq!(scene.status().await.unwrap().route.generation, 8);
}

#[tokio::test]
async fn without_a_gateway_or_a_class_there_is_no_ingress() {
    let none = IngressSettings {
        gateway: None,
        class: None,
        settle: IngressSettings::SETTLE,
    };
    let error =
        KubernetesIngress::connect(client().await, platform(), none, Arc::new(WallClock)).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
    // What the cluster serves is chosen, the Gateway API first.
    let both = IngressSettings {
        class: by_class().class,
        ..by_gateway()
    };
    let ingress =
        KubernetesIngress::connect(client().await, platform(), both, Arc::new(WallClock)).await;
    assert!(format!("{:?}", ingress.unwrap()).contains("Gateway"));
}
