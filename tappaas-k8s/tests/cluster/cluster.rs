use std::{path::PathBuf, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersion,
};
use serde_json::Value;
use tappaas_k8s::PlatformId;

const ESTABLISHED_MAX: Duration = Duration::from_secs(30);

/// What the testbed tells of itself.
#[expect(
    clippy::disallowed_methods,
    reason = "a cluster is not in the repository"
)]
pub(crate) fn facts() -> Value {
    let facts = std::env::var_os("TAPPAAS_TESTBED")
        .map(PathBuf::from)
        .expect("run by `cargo xtask test kubernetes`, which sets TAPPAAS_TESTBED");
    serde_json::from_slice(&std::fs::read(facts).unwrap()).unwrap()
}

/// The group of the one platform that these suites are.
pub(crate) const GROUP: &str = "platform.tappaas.dev";

/// That platform.
pub(crate) fn platform() -> PlatformId {
    PlatformId::of_group(GROUP)
}

/// A client of the testbed, or of whatever cluster takes its place.
pub(crate) async fn client() -> Client {
    Client::try_from(config().await).unwrap()
}

/// A client with the rights of a service account alone, written `namespace:name`.
pub(crate) async fn client_of(account: &str) -> Client {
    let mut config = config().await;
    config.auth_info.impersonate = Some(format!("system:serviceaccount:{account}"));
    Client::try_from(config).unwrap()
}

async fn config() -> Config {
    let kubeconfig = Kubeconfig::read_from(facts()["kubeconfig"].as_str().unwrap()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.unwrap()
}

/// Applies objects, whatever they are.
pub(crate) async fn apply(client: &Client, objects: &[Value]) {
    let parameters = PatchParams::apply("tests").force();
    for object in objects {
        let text = |path: &str| {
            object
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        let version: GroupVersion = version.parse().unwrap();
        let resource = ApiResource::from_gvk(&version.with_kind(kind));
        let api: Api<DynamicObject> = match text("/metadata/namespace") {
            "" => Api::all_with(client.clone(), &resource),
            namespace => Api::namespaced_with(client.clone(), namespace, &resource),
        };
        let patch = Patch::Apply(object);
        api.patch(text("/metadata/name"), &parameters, &patch)
            .await
            .unwrap();
    }
}

/// Makes custom resources known, and waits until they are.
pub(crate) async fn define(
    client: &Client,
    definitions: impl IntoIterator<Item = CustomResourceDefinition>,
) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let parameters = PatchParams::apply("tests").force();
    for definition in definitions {
        let name = definition.metadata.name.clone().unwrap();
        let patch = Patch::Apply(&definition);
        api.patch(&name, &parameters, &patch).await.unwrap();
        tokio::time::timeout(ESTABLISHED_MAX, established(&api, &name))
            .await
            .unwrap();
    }
}

async fn established(api: &Api<CustomResourceDefinition>, name: &str) {
    loop {
        let found = api.get(name).await.unwrap();
        let conditions = found.status.and_then(|status| status.conditions);
        let mut conditions = conditions.into_iter().flatten();
        if conditions.any(|one| one.type_ == "Established" && one.status == "True") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
