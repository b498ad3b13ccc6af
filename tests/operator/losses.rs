//! What a cluster may lose, hold back, or have from before.

use serde_json::{Value, json};
use tappaas::core::Kind;
use tappaas_testkit::conformance::until;

use crate::world::{READY, UNREADY, World};

const ENVIRONMENT: &str = "acme.shop.production";
const STAGING: &str = "acme.shop.staging";
/// What tells the simulated nodes of this test from all others.
const OWN: &str = "tappaas.test/vanishes";
const NODES: [&str; 2] = ["vanishes", "stays"];
const COUNT: &str = ".status.processes.web.ready";
const REASONS: &str = ".status.processes.web.reasons";
/// What nobody removes who does not know it.
const HELD: &str = "tappaas.test/held";

#[tokio::test]
async fn what_ran_on_a_node_that_vanishes_runs_on_another() {
    let mut world = World::install("nodes", "unused", 0).await;
    let runtime = format!("--runtime=edge={OWN}=true");
    world.installation.arguments.push(runtime);
    let cluster = &world.cluster;
    cluster.apply(&NODES.map(node));
    for node in NODES {
        let node = format!("node/{node}");
        cluster.kubectl(&["wait", &node, "--for=condition=Ready", "--timeout=60s"]);
    }
    let operator = world.operator("one").await;
    let namespace = world.environment(ENVIRONMENT).await;
    let object = world.named("applications", "hello");
    let mut hello = world.application(&namespace, "hello", &["/program", "serve", "hello", "1ms"]);
    hello["spec"]["content"]["processes"]["web"]["runtime"] = json!("edge");
    hello["spec"]["scale"] = json!({ "web": 2 });
    cluster.apply(&[hello]);
    cluster.wait(&namespace, &object, COUNT, "2").await;
    let placed = || {
        let path = "-o=jsonpath={range .items[*]}{.spec.nodeName}={.metadata.name} {end}";
        cluster.kubectl(&["get", "pods", "-n", &namespace, path])
    };
    let before = placed();
    let of = |node: &str| {
        let mut pods = before.split(' ').filter_map(|pod| pod.split_once('='));
        pods.find(|(on, _)| *on == node)
            .map(|(_, pod)| format!("pod/{pod}"))
    };
    let lost = of(NODES[0]).expect("instances are spread over nodes");
    // Nobody simulates it any more, and so nothing is heard of it.
    let lost_node = format!("node/{}", NODES[0]);
    cluster.kubectl(&["label", &lost_node, "testbed/simulated-"]);
    cluster.kubectl(&[
        "wait",
        &lost_node,
        "--for=condition=Ready=Unknown",
        "--timeout=120s",
    ]);
    cluster.wait(&namespace, &object, COUNT, "1").await;
    let why = format!("its node, {}, does not answer", NODES[0]);
    cluster.tells(&namespace, &object, REASONS, &why).await;
    cluster.kubectl(&["delete", &lost_node]);
    // Kubernetes waits with it for most of a minute.
    cluster.kubectl(&[
        "wait",
        "-n",
        &namespace,
        &lost,
        "--for=delete",
        "--timeout=180s",
    ]);
    let elsewhere = until("both run on the other node", async || {
        let pods = placed();
        Ok((pods.matches(&format!("{}=", NODES[1])).count() == 2).then_some(()))
    });
    elsewhere.await.unwrap();
    cluster.wait(&namespace, &object, COUNT, "2").await;
    cluster.wait(&namespace, &object, READY, "True").await;
    world.clear();
    cluster.kubectl(&["delete", "node", NODES[1]]);
    world.end(operator).await;
}

/// A simulated node that takes nothing but what asks for it.
fn node(name: &str) -> Value {
    let labels = json!({
        "testbed/simulated": "true", OWN: "true", "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
    });
    let resources = json!({ "cpu": "4", "memory": "8Gi", "pods": "20" });
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": labels },
        "spec": { "taints": [{ "key": OWN, "value": "true", "effect": "NoSchedule" }] },
        "status": { "allocatable": resources, "capacity": resources },
    })
}

#[tokio::test]
async fn an_environment_whose_namespace_is_held_back_says_by_what_and_holds_nobody_else_back() {
    let (world, operator, namespace) = World::begun("held", ENVIRONMENT).await;
    let cluster = &world.cluster;
    let metadata = json!({ "name": "held", "namespace": namespace, "finalizers": [HELD] });
    cluster.apply(&[json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata })]);
    let environment = world.named("environments", ENVIRONMENT);
    cluster.kubectl(&["delete", &environment, "--wait=false"]);
    cluster.tells("default", &environment, UNREADY, HELD).await;

    let other = world.environment(STAGING).await;
    let object = world.named("applications", "hello");
    cluster.apply(&[world.application(&other, "hello", &["/program", "serve", "hello", "1ms"])]);
    cluster.wait(&other, &object, READY, "True").await;

    let nothing = r#"{"metadata":{"finalizers":null}}"#;
    let words = [
        "patch",
        "configmap",
        "held",
        "-n",
        &namespace,
        "--type=merge",
        "-p",
        nothing,
    ];
    cluster.kubectl(&words);
    cluster.kubectl(&["wait", &environment, "--for=delete", "--timeout=120s"]);
    world.end(operator).await;
}

#[tokio::test]
async fn objects_stored_under_older_definitions_are_taken_up_once_these_are_new() {
    let (world, operator, namespace) = World::begun("older", ENVIRONMENT).await;
    let cluster = &world.cluster;
    operator.terminate();
    let objects = world.installation.objects();
    let definitions = &objects[..Kind::ALL.len()];
    let apply = |definition: &Value| {
        let words = ["apply", "--server-side", "-f", "-"];
        cluster
            .try_kubectl(&words, &definition.to_string())
            .unwrap();
    };
    // The version before knew no rollback.
    let own = |definition: &&Value| definition["spec"]["names"]["kind"] == "Application";
    let mut older = definitions.iter().find(own).unwrap().clone();
    let schema = &mut older["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let fields = schema["properties"]["spec"]["properties"].as_object_mut();
    assert!(fields.unwrap().remove("rollback").is_some());
    apply(&older);
    cluster.apply(&[world.application(
        &namespace,
        "hello",
        &["/program", "serve", "hello", "1ms"],
    )]);

    let refusal = world.begin("two").fails();
    for told in [
        "applications.older.tappaas.dev",
        "rollback",
        "install --print",
    ] {
        assert!(refusal.contains(told), "{refusal}");
    }
    let deployments = ["get", "deployments", "-n", &namespace, "-o=name"];
    assert_eq!(cluster.kubectl(&deployments), "");
    definitions.iter().for_each(apply);
    let operator = world.operator("three").await;
    let object = world.named("applications", "hello");
    cluster.wait(&namespace, &object, READY, "True").await;
    world.end(operator).await;
}
