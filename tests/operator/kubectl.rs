//! What people do with `kubectl` alone.

use serde_json::json;
use tappaas_testkit::conformance::until;

use crate::world::{READY, UNREADY, World};

const ENVIRONMENT: &str = "acme.shop.production";
const BUILT: &str = ".status.conditions[?(@.type==\"Built\")].reason";

#[tokio::test]
async fn what_is_applied_runs_and_what_is_deleted_leaves_nothing() {
    let (world, operator, namespace) = World::begun("kubectl", ENVIRONMENT).await;
    let cluster = &world.cluster;

    let serve = |text| world.application(&namespace, "hello", &["/program", "serve", text, "1ms"]);
    let mut hello = serve("one");
    cluster.apply(&[hello.clone()]);
    let object = world.named("applications", "hello");
    cluster.wait(&namespace, &object, READY, "True").await;
    let host = cluster.value(&namespace, &object, ".status.hosts[0]");
    assert_eq!(host, "hello.production.shop.acme.kubectl.example");
    cluster.answers(&host, "one /").await;
    // What a person wrote stays as it was written.
    let written = cluster.value(&namespace, &object, ".spec.content.processes.web");
    assert_eq!(
        written,
        r#"{"command":{"exec":["/program","serve","one","1ms"]}}"#
    );

    hello = serve("two");
    hello["spec"]["scale"] = json!({ "web": 2 });
    cluster.apply(&[hello]);
    cluster.answers(&host, "two /").await;
    let ready = ".status.processes.web.ready";
    cluster.wait(&namespace, &object, ready, "2").await;
    let told = until("both phases are told of as Events", async || {
        let told = cluster.kubectl(&["events", "-n", &namespace]);
        Ok((told.contains("RollingOut") && told.contains("Running")).then_some(()))
    });
    told.await.unwrap();

    let failing = world.application(&namespace, "hello", &["/program", "exit", "3"]);
    cluster.apply(&[failing]);
    cluster.wait(&namespace, &object, READY, "False").await;
    let why = "exited with code 3";
    cluster.tells(&namespace, &object, UNREADY, why).await;
    cluster.answers(&host, "two /").await;

    cluster.kubectl(&[
        "delete",
        &world.named("environments", ENVIRONMENT),
        "--wait=false",
    ]);
    let environment = world.named("environments", ENVIRONMENT);
    cluster.wait("default", &environment, READY, "False").await;
    let why = "still has application hello";
    cluster.tells("default", &environment, UNREADY, why).await;
    cluster.answers(&host, "two /").await;
    cluster.kubectl(&["delete", "-n", &namespace, &object, "--timeout=120s"]);
    let gone = until("the environment is gone", async || {
        let left = cluster.kubectl(&["get", "namespaces", "-o=name"]);
        let known = cluster.try_kubectl(&["get", &environment], "");
        Ok((!left.contains(&namespace) && known.is_err()).then_some(()))
    });
    gone.await.unwrap();
    let unserved = until("the gateway has no more of it", async || {
        // Without any route the gateway does not even listen.
        let page = cluster.page(&host);
        Ok(page.map_or(true, |(status, _)| status == 404).then_some(()))
    });
    unserved.await.unwrap();
    for kind in [
        "applications",
        "builds",
        "releases",
        "hostclaims",
        "volumes",
    ] {
        let kind = format!("{kind}.{}", world.installation.group);
        let left = cluster.kubectl(&["get", &kind, "-A", "-o=name"]);
        assert_eq!(left, "", "{kind}");
    }
    operator.terminate();
    world.uninstall().await;
}

#[tokio::test]
async fn what_cannot_be_is_said_in_conditions() {
    let (world, operator, namespace) = World::begun("wrong", ENVIRONMENT).await;
    let cluster = &world.cluster;
    let commit = "0".repeat(40);
    let source = json!({ "git": { "url": "https://example.test/x.git", "reference": "main", "commit": commit } });
    let mut wrong = world.application(&namespace, "wrong", &["/program", "exit", "0"]);
    wrong["spec"]["content"]["processes"]["web"]["stop"] = json!({ "signal": "SIGFOO" });
    let cases = [
        (
            "source",
            json!({ "content": { "source": source } }),
            "NoBuilder",
            "give an image",
        ),
        (
            "tag",
            json!({ "content": { "source": { "reference": "localhost:1/x:1" } } }),
            "BuildFailed",
            "by its digest",
        ),
        (
            "short",
            json!({ "content": { "source": { "reference": format!("x@sha256:{}", "0".repeat(64)) } } }),
            "BuildFailed",
            "names no registry",
        ),
        (
            "wrong",
            wrong["spec"].clone(),
            "Invalid",
            "`SIGFOO` is not a signal",
        ),
    ];
    for (name, spec, ..) in &cases {
        let metadata = json!({ "name": name, "namespace": namespace });
        cluster.apply(&[world.object("Application", &metadata, spec)]);
    }
    // What the cluster cannot do is found out only when it is tried.
    let mut signal = world.application(&namespace, "signal", &["/program", "serve", "a", "1ms"]);
    signal["spec"]["content"]["processes"]["web"]["stop"] = json!({ "signal": "SIGINT" });
    let mut host = world.application(&namespace, "host", &["/program", "serve", "a", "1ms"]);
    let taken = json!([{ "hosts": ["shop.other.wrong.example"], "path": "/", "process": "web" }]);
    host["spec"]["content"]["routes"] = taken;
    cluster.apply(&[signal, host]);
    let told = [
        ("signal", "Built", "SIGINT"),
        ("host", "ForeignHost", "is not this tenant's"),
    ];
    let told = told.map(|(name, reason, message)| (name, json!({}), reason, message));
    for (name, _, reason, message) in cases.into_iter().chain(told) {
        let object = world.named("applications", name);
        cluster.wait(&namespace, &object, BUILT, reason).await;
        cluster.wait(&namespace, &object, READY, "False").await;
        cluster.tells(&namespace, &object, UNREADY, message).await;
    }
    world.end(operator).await;
}

#[tokio::test]
async fn a_variable_is_read_from_a_secret_that_the_platform_never_sees() {
    let (world, operator, namespace) = World::begun("secrets", ENVIRONMENT).await;
    let cluster = &world.cluster;
    let words = ["/program", "print", "TOKEN"];
    let mut reads = world.application(&namespace, "reads", &words);
    let content = &mut reads["spec"]["content"];
    content["processes"] = json!({ "worker": { "command": { "exec": words } } });
    content["environment"] = json!({ "TOKEN": "secret://kubernetes/token#value" });
    cluster.apply(&[reads]);
    let object = world.named("applications", "reads");
    let missing = "secret \"token\" not found";
    cluster.tells(&namespace, &object, UNREADY, missing).await;
    let metadata = json!({ "name": "token", "namespace": namespace });
    let secret = json!({ "value": "only-the-pod-knows" });
    cluster.apply(&[
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret }),
    ]);
    cluster.wait(&namespace, &object, READY, "True").await;
    let selector = "-l=tappaas.dev/application=reads";
    let logs = cluster.kubectl(&["logs", "-n", &namespace, selector]);
    assert_eq!(logs, "TOKEN=only-the-pod-knows");
    let kinds = ["applications", "releases"].map(|kind| world.named(kind, ""));
    let kinds = kinds
        .map(|kind| kind.trim_end_matches('/').to_owned())
        .join(",");
    let said = cluster.kubectl(&["get", &kinds, "-n", &namespace, "-o=json"]);
    assert!(said.contains("secret://kubernetes/token#value"), "{said}");
    assert!(!said.contains("only-the-pod-knows"), "{said}");
    assert!(!operator.log().contains("only-the-pod-knows"));
    world.end(operator).await;
}

#[tokio::test]
async fn an_application_reaches_another_one_by_the_name_that_its_binding_gives_it() {
    let (world, operator, namespace) = World::begun("bound", ENVIRONMENT).await;
    let cluster = &world.cluster;
    let serve = |name| world.application(&namespace, name, &["/program", "serve", name, "1ms"]);
    let mut caller = serve("caller");
    caller["spec"]["content"]["bindings"] =
        json!({ "backend": { "application": "callee", "process": "web" } });
    cluster.apply(&[serve("callee"), caller]);
    for name in ["callee", "caller"] {
        let object = world.named("applications", name);
        cluster.wait(&namespace, &object, READY, "True").await;
    }
    let pod = "-l=tappaas.dev/application=caller";
    let pod = cluster.kubectl(&["get", "pods", "-n", &namespace, pod, "-o=name"]);
    let inside = |words: &[&str]| {
        let exec = ["exec", "-n", &namespace, pod.trim(), "--"];
        cluster.kubectl(&[&exec[..], words].concat())
    };
    let variables = inside(&["env"]);
    let given = |name: &str| {
        let mut lines = variables.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {name} in {variables}"))
    };
    let address = format!("{}:{}", given("BACKEND_HOST"), given("BACKEND_PORT"));
    assert_eq!(given("BACKEND_URL"), format!("http://{address}"));
    // The node's own rules follow in their own time.
    let fetch = [
        "exec",
        "-n",
        &namespace,
        pod.trim(),
        "--",
        "fetch",
        address.as_str(),
    ];
    let answered = until("the callee answers", async || {
        Ok(cluster.try_kubectl(&fetch, "").ok())
    });
    assert_eq!(answered.await.unwrap(), "callee /");
    world.end(operator).await;
}

#[tokio::test]
async fn one_of_two_operators_acts_and_the_other_takes_over() {
    let world = World::install("two", "unused", 0).await;
    let cluster = &world.cluster;
    let first = world.operator("one").await;
    let second = world.operator("two").await;
    assert!(first.leads() && !second.leads());
    let namespace = world.environment(ENVIRONMENT).await;
    let object = world.named("applications", "hello");
    let serve = |text| world.application(&namespace, "hello", &["/program", "serve", text, "1ms"]);
    cluster.apply(&[serve("one")]);
    cluster.wait(&namespace, &object, READY, "True").await;
    let host = cluster.value(&namespace, &object, ".status.hosts[0]");

    // Told to end, it hands over at once; killed, its lease has to run out.
    first.terminate();
    cluster.apply(&[serve("two")]);
    cluster.answers(&host, "two /").await;
    assert!(second.leads());
    let third = world.operator("three").await;
    second.kill();
    cluster.apply(&[serve("three")]);
    cluster.answers(&host, "three /").await;
    assert!(third.leads());

    world.end(third).await;
}
