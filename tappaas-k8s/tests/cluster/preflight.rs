//! What a cluster may lack.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use tappaas_core::ErrorKind;
use tappaas_k8s::{Installation, Needs, definitions, preflight};

use crate::cluster::{apply, client, client_of, define};

fn installation(group: &str) -> Installation {
    Installation {
        namespace: "preflight-system".to_owned(),
        group: group.to_owned(),
        image: "none.example/tappaas:1".to_owned(),
        arguments: Vec::new(),
        replicas: 0,
    }
}

#[tokio::test]
async fn what_is_missing_is_named_and_what_is_installed_suffices() {
    let group = "preflight.tappaas.dev";
    let admin = client().await;
    let refused = preflight(&admin, Needs::of_an_operator(group))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(
        refused
            .to_string()
            .contains("applications.preflight.tappaas.dev"),
        "{refused}"
    );
    let installation = installation(group);
    define(&admin, definitions(group)).await;
    // Who has only just been made has no rights yet.
    let account = client_of("preflight-system:nobody").await;
    let refused = preflight(&account, Needs::of_an_operator(group))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    assert!(
        refused.to_string().contains("customresourcedefinitions"),
        "{refused}"
    );
    apply(&admin, &installation.objects()).await;
    let account = client_of("preflight-system:tappaas").await;
    preflight(&account, Needs::of_an_operator(group))
        .await
        .unwrap();

    let definitions: Api<CustomResourceDefinition> = Api::all(admin.clone());
    let older = json!({ "spec": { "names": { "shortNames": ["other"] } } });
    definitions
        .patch(
            "applications.preflight.tappaas.dev",
            &PatchParams::default(),
            &Patch::Merge(&older),
        )
        .await
        .unwrap();
    let refused = preflight(&account, Needs::of_an_operator(group))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("spec.names.shortNames"),
        "{refused}"
    );
    for name in installation.objects().iter().filter_map(|object| {
        (object["kind"] == "CustomResourceDefinition")
            .then(|| object["metadata"]["name"].as_str())?
    }) {
        definitions
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
}
