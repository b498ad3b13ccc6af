use serde_json::{Map, Value, json};

use crate::{Outcome, cluster::Cluster};

/// What the operator makes of applications, besides its own objects.
const MADE: &str =
    "secrets,serviceaccounts,networkpolicies,services,poddisruptionbudgets,deployments,httproutes";
/// What of an object's metadata its author wrote.
const WRITTEN: [&str; 2] = ["name", "labels"];

/// An application with one web process, which runs on simulated nodes: nobody ever pulls its image.
pub(crate) fn application(group: &str, namespace: &str, n: usize) -> Value {
    let image = format!("registry.example/hello@sha256:{}", "0".repeat(64));
    let port = json!({ "name": "http", "number": 8080, "protocol": "http", "declared": true });
    let web = json!({
        "command": { "exec": ["/hello"] },
        "ports": [port],
        "runtime": "edge",
    });
    json!({
        "apiVersion": format!("{group}/v1"),
        "kind": "Application",
        "metadata": { "name": format!("app-{n}"), "namespace": namespace },
        "spec": { "content": {
            "source": { "reference": image },
            "processes": { "web": web },
        } },
    })
}

/// A namespace with the rules for pods that those of environments have.
pub(crate) fn namespace(name: &str) -> Value {
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let metadata = json!({ "name": name, "labels": labels });
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })
}

/// The objects that the operator made in a namespace, without what the API server, controllers and the operator's own book-keeping added.
pub(crate) fn made(cluster: &Cluster, namespace: &str) -> Outcome<Vec<Value>> {
    let ours = "app.kubernetes.io/managed-by=tappaas";
    let words = ["get", MADE, "-n", namespace, "-l", ours, "-o=json"];
    let list: Value = serde_json::from_str(&cluster.kubectl(&words)?)?;
    let items = list["items"].as_array().ok_or("a list without items")?;
    Ok(items.iter().cloned().map(written).collect())
}

/// The same object in another namespace.
pub(crate) fn moved(mut object: Value, namespace: &str) -> Value {
    object["metadata"]["namespace"] = namespace.into();
    object
}

fn written(mut object: Value) -> Value {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
        let metadata = object.remove("metadata").unwrap_or_default();
        let kept = WRITTEN.iter().filter_map(|name| {
            let value = metadata.get(*name)?;
            Some(((*name).to_owned(), value.clone()))
        });
        object.insert("metadata".to_owned(), kept.collect::<Map<_, _>>().into());
    }
    let given_an_address = object["kind"] == "Service" && object["spec"]["clusterIP"] != "None";
    if given_an_address && let Some(spec) = object["spec"].as_object_mut() {
        spec.retain(|name, _| !name.starts_with("clusterIP"));
    }
    object
}
