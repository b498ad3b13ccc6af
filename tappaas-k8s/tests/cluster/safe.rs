//! Secrets in namespaces of their own.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use tappaas_core::backend::SecretStore;
use tappaas_k8s::KubernetesSecrets;

use crate::cluster::{client, platform};

/// A store in a new namespace, which goes with the cluster.
pub(crate) async fn fresh() -> Arc<dyn SecretStore> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let client = client().await;
    let name = format!("secrets-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    // On a cluster that is used again it may be there, and what a run before left in it.
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .ok();
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), &name);
    let all = kube::api::ListParams::default();
    secrets
        .delete_collection(&DeleteParams::default(), &all)
        .await
        .unwrap();
    Arc::new(KubernetesSecrets::new(client, platform(), &name))
}
