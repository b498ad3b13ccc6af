//! Folders of the one real node as storage: the testbed has no driver that would make any.

use std::{
    fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::PathBuf, sync::Arc, time::Duration,
};

use k8s_openapi::api::{
    core::v1::PersistentVolume,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tappaas_core::backend::Volumes as _;
use tappaas_k8s::{GROUP, KubernetesVolumes, VolumeSettings, rules};
use tappaas_testkit::conformance::PATIENCE;

use crate::{
    cluster::{apply, client, client_of, facts, platform},
    node,
};

/// The class of all of it, and the name of whatever else is made.
pub(crate) const CLASS: &str = "tappaas-tests";
/// By this everything is found again.
const LABEL: &str = "tests.tappaas.dev/storage";
/// A case has two volumes at most, and one that was used is not used again.
const FOLDERS: usize = 3;
/// The tenant of the suites' applications.
const TENANT: &str = "conformance";

/// Volumes over that storage, with the rights that an installed operator has. All of it goes when this does.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) volumes: Arc<KubernetesVolumes>,
}

impl Storage {
    pub(crate) async fn new() -> Self {
        let admin = client().await;
        clear(&admin).await;
        apply(&admin, &rights()).await;
        apply(&admin, &[class()]).await;
        for number in 0..FOLDERS {
            apply(&admin, &[folder(number)]).await;
        }
        let settings = VolumeSettings {
            storage_class: Some(CLASS.to_owned()),
            ..VolumeSettings::default()
        };
        let operator = client_of(&format!("default:{CLASS}")).await;
        Self {
            volumes: Arc::new(KubernetesVolumes::new(operator, platform(), settings)),
        }
    }
}

impl Drop for Storage {
    /// In a runtime of its own, for that of the test does not go on meanwhile.
    fn drop(&mut self) {
        let clearing = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(async { clear(&client().await).await });
        };
        let cleared = std::thread::spawn(clearing).join();
        if !std::thread::panicking() {
            cleared.unwrap();
        }
    }
}

/// Removes what was made, and first what uses it.
async fn clear(admin: &Client) {
    let tenant = |tenant: &tappaas_core::Name| tenant.as_str() == TENANT;
    let scheduler = node::scheduler(admin.clone());
    node::empty(&scheduler, |id| tenant(&id.application.tenant)).await;
    let volumes = KubernetesVolumes::new(admin.clone(), platform(), VolumeSettings::default());
    for id in volumes.list().await.unwrap() {
        if tenant(&id.application.tenant) {
            volumes.remove(&id).await.unwrap();
        }
    }
    remove::<PersistentVolume>(admin).await;
    remove::<StorageClass>(admin).await;
    remove::<ClusterRoleBinding>(admin).await;
    remove::<ClusterRole>(admin).await;
    match std::fs::remove_dir_all(place()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

async fn remove<K>(admin: &Client)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(admin.clone());
    let ours = ListParams::default().labels(LABEL);
    let all = DeleteParams::default();
    api.delete_collection(&all, &ours).await.unwrap();
    let gone = async {
        while !api.list(&ours).await.unwrap().items.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

/// Where the node sees the folders, too.
fn place() -> PathBuf {
    let directory = facts()["directory"].as_str().unwrap().to_owned();
    PathBuf::from(directory).join("volumes")
}

/// A folder that nobody but root may enter yet: pods get their group on it.
fn folder(number: usize) -> Value {
    let path = place().join(number.to_string());
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&path).unwrap();
    let on_the_node = json!({
        "key": "kubernetes.io/hostname",
        "operator": "In",
        "values": [facts()["node"]],
    });
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": format!("{CLASS}-{number}"), "labels": { LABEL: "" } },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": { "storage": "1Gi" },
            "local": { "path": path },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [
                { "matchExpressions": [on_the_node] },
            ] } },
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
        },
    })
}

/// A claim gets a folder once a pod mounts it.
fn class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": { "name": CLASS, "labels": { LABEL: "" } },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

fn rights() -> [Value; 2] {
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"),
        "kind": "ClusterRole",
        "metadata": { "name": CLASS, "labels": { LABEL: "" } },
        "rules": rules(GROUP),
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": { "name": CLASS, "labels": { LABEL: "" } },
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": CLASS },
        "subjects": [{ "kind": "ServiceAccount", "name": CLASS, "namespace": "default" }],
    });
    [role, binding]
}
