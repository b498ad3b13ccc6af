//! Objects and namespaces that others than the store made or changed.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tappaas_core::{
    ErrorKind, Event, Key, Kind, ListRequest, Metadata, Name, Object, Precondition, Scope, Store,
    object::API_VERSION,
};

use crate::{
    cluster::client,
    seat::{GROUP, Seat},
};

fn environment(name: &str) -> Scope {
    let [tenant, project, environment] =
        ["strangers", "p", name].map(|name| Name::new(name).unwrap());
    Scope::environment(tenant, project, environment)
}

fn application(scope: &Scope, name: &str) -> Object {
    Object {
        api_version: API_VERSION.to_owned(),
        kind: Kind::Application,
        metadata: Metadata::new(scope, name),
        spec: json!({ "n": 1 }),
        status: json!(null),
    }
}

async fn api(namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client().await, namespace, &resource())
}

fn resource() -> ApiResource {
    ApiResource {
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        api_version: format!("{GROUP}/v1"),
        kind: "Application".to_owned(),
        plural: "applications".to_owned(),
    }
}

/// The namespace that the store made for an environment.
async fn namespace_of(scope: &Scope) -> String {
    let namespaces: Api<Namespace> = Api::all(client().await);
    let [tenant, project, environment] = scope.names() else {
        panic!("{scope} is no environment");
    };
    let selector = format!(
        "tappaas.dev/tenant={tenant},tappaas.dev/project={project},tappaas.dev/environment={environment}"
    );
    let request = kube::api::ListParams::default().labels(&selector);
    let found = namespaces.list(&request).await.unwrap().items;
    let [found] = found.as_slice() else {
        panic!("{scope} has {} namespaces", found.len());
    };
    found.metadata.name.clone().unwrap()
}

#[tokio::test]
async fn an_object_that_a_person_made_without_labels_is_found() {
    let (store, scope) = (Seat::take().await, environment("made"));
    let ours = store
        .put(application(&scope, "ours"), Precondition::Absent)
        .await
        .unwrap();
    let mut made = DynamicObject::new("made", &resource());
    made.data = json!({ "spec": { "n": 2 } });
    let api = api(&namespace_of(&scope).await).await;
    api.create(&PostParams::default(), &made).await.unwrap();
    let key = Key::new(Kind::Application, scope.clone(), "made");
    let found = store.get(&key).await.unwrap().unwrap();
    assert_eq!(found.spec, json!({ "n": 2 }));
    let page = store
        .list(&ListRequest::new(Kind::Application, scope))
        .await;
    assert_eq!(page.unwrap().objects, [found.clone(), ours.clone()]);
    let mut events = store
        .watch(Kind::Application, ours.metadata.revision)
        .await
        .unwrap();
    assert_eq!(events.next().await, Some(Event::Applied(found)));
}

#[tokio::test]
async fn an_object_that_somebody_spoilt_is_one_without_owners() {
    let (store, scope) = (Seat::take().await, environment("spoilt"));
    let made = store
        .put(application(&scope, "spoilt"), Precondition::Absent)
        .await
        .unwrap();
    let spoilt = json!({ "metadata": { "annotations": { "tappaas.dev/owners": "x" } } });
    let api = api(&namespace_of(&scope).await).await;
    api.patch("spoilt", &PatchParams::default(), &Patch::Merge(&spoilt))
        .await
        .unwrap();
    let found = store.get(&made.key()).await.unwrap().unwrap();
    assert_eq!(
        (found.spec.clone(), found.metadata.owners.len()),
        (made.spec.clone(), 0)
    );
    let gone = store.delete(&made.key(), Precondition::Present).await;
    assert!(gone.unwrap().is_some());
}

#[tokio::test]
async fn owners_that_others_gave_an_object_are_kept() {
    let (store, scope) = (Seat::take().await, environment("owned"));
    let [owner, owned] = ["owner", "owned"].map(|name| application(&scope, name));
    let owner = store.put(owner, Precondition::Absent).await.unwrap();
    let mut owned = store.put(owned, Precondition::Absent).await.unwrap();
    let reference = json!({ "apiVersion": format!("{GROUP}/v1"), "kind": "Application", "name": "owner", "uid": owner.metadata.uid });
    let references = json!({ "metadata": { "ownerReferences": [reference] } });
    let api = api(&namespace_of(&scope).await).await;
    api.patch("owned", &PatchParams::default(), &Patch::Merge(&references))
        .await
        .unwrap();
    owned.spec = json!({ "n": 2 });
    store.put(owned, Precondition::Present).await.unwrap();
    let found = api.get("owned").await.unwrap();
    assert_eq!(found.data["spec"], json!({ "n": 2 }));
    let kept = found.metadata.owner_references.unwrap_or_default();
    assert_eq!(kept.len(), 1, "{kept:?}");
}

#[tokio::test]
async fn a_namespace_that_somebody_else_made_under_our_name_is_refused_and_named() {
    let store = Seat::take().await;
    let (own, taken) = (environment("own"), environment("taken"));
    store
        .put(application(&own, "a"), Precondition::Absent)
        .await
        .unwrap();
    let first = store
        .put(application(&taken, "a"), Precondition::Absent)
        .await;
    let first = first.unwrap();
    // The name is known by now; without its labels the namespace is anybody's.
    let name = namespace_of(&taken).await;
    let namespaces: Api<Namespace> = Api::all(client().await);
    let unlabelled = json!({ "metadata": { "labels": { "tappaas.dev/tenant": null } } });
    namespaces
        .patch(&name, &PatchParams::default(), &Patch::Merge(&unlabelled))
        .await
        .unwrap();
    // A process that has not seen it before.
    let other = store.again().await;
    let refused = other
        .put(application(&taken, "b"), Precondition::Absent)
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
    assert!(refused.to_string().contains(&name), "{refused}");
    let labels = json!({ "metadata": { "labels": { "tappaas.dev/tenant": "strangers" } } });
    namespaces
        .patch(&name, &PatchParams::default(), &Patch::Merge(&labels))
        .await
        .unwrap();
    other
        .put(application(&taken, "b"), Precondition::Absent)
        .await
        .unwrap();
    store
        .delete(&first.key(), Precondition::Present)
        .await
        .unwrap();
}
