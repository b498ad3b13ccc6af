//! What a tenant can write with `kubectl` in a namespace of its own, and what of others it reaches by that: nothing.

use serde_json::{Value, json};
use tappaas_testkit::conformance::until;

use crate::world::{READY, World};

const ATTACKER: &str = "mallory.shop.production";
const VICTIM: &str = "acme.shop.production";
const MESSAGE: &str = ".status.conditions[?(@.type==\"Ready\")].message";
const SERVE: [&str; 4] = ["/program", "serve", "victim", "1ms"];

/// Two tenants, of whom one runs something.
struct Tenants {
    world: World,
    attacker: String,
    victim: String,
    /// The victim's application and its host.
    target: String,
    host: String,
}

impl Tenants {
    async fn new(name: &str) -> (Self, crate::world::Operator) {
        let world = World::install(name, "unused", 0).await;
        let operator = world.operator("one").await;
        let attacker = world.environment(ATTACKER).await;
        let victim = world.environment(VICTIM).await;
        let target = world.named("applications", "target");
        let application = world.application(&victim, "target", &SERVE);
        world.cluster.apply(&[application]);
        world.cluster.wait(&victim, &target, READY, "True").await;
        let host = world.cluster.value(&victim, &target, ".status.hosts[0]");
        let tenants = Self {
            world,
            attacker,
            victim,
            target,
            host,
        };
        (tenants, operator)
    }

    /// What is said of an application of the attacker's that cannot be.
    async fn refusal(&self, name: &str, change: impl Fn(&mut Value)) -> String {
        let cluster = &self.world.cluster;
        let mut application = self.world.application(&self.attacker, name, &SERVE);
        change(&mut application["spec"]["content"]);
        cluster.apply(&[application]);
        let object = self.world.named("applications", name);
        cluster.wait(&self.attacker, &object, READY, "False").await;
        cluster.value(&self.attacker, &object, MESSAGE)
    }

    /// The uids of what runs the victim's application: others if any of it was made anew.
    fn victims(&self) -> String {
        let kinds = "deployments,pods,services,networkpolicies,serviceaccounts,httproutes,secrets";
        let uids = "-o=jsonpath={.items[*].metadata.uid}";
        let words = ["get", kinds, "-n", &self.victim, uids];
        self.world.cluster.kubectl(&words)
    }
}

#[tokio::test]
async fn an_application_reaches_nothing_of_another_tenant_and_learns_nothing_of_it() {
    let (tenants, operator) = Tenants::new("isolated").await;
    let before = tenants.victims();
    // Whether the other tenant has what is named makes no difference to what is said.
    let bound = async |name: &str, to: &str| {
        let binding = json!({ "db": { "application": to, "process": "web" } });
        let said = tenants.refusal(name, |content| {
            content["bindings"] = binding.clone();
            content["processes"]["web"]["command"]["exec"] = json!(["/program", "idle"]);
            content["rollout"]["deadlineSeconds"] = json!(1);
        });
        let said = said.await.replace(to, "it");
        // How far the instance came in that second is another matter.
        let (before, _) = said.split_once(" instances ready").expect(&said);
        before.to_owned()
    };
    assert_eq!(
        bound("bound", "target").await,
        bound("unbound", "nothing").await
    );
    let hosted = async |name: &str, host: &str| {
        let routes = json!([{ "hosts": [host], "path": "/", "process": "web" }]);
        let said = tenants.refusal(name, |content| content["routes"] = routes.clone());
        said.await.replace(host, "it")
    };
    let absent = tenants.host.replace("target", "nothing");
    let said = hosted("hosted", &tenants.host).await;
    assert_eq!(said, hosted("unhosted", &absent).await);
    assert!(said.contains("is not this tenant's"), "{said}");
    let zeros = "0".repeat(64);
    let taken = async |name: &str, application: &str| {
        let repository = format!("acme/shop/production/{application}");
        let digest = format!("sha256:{zeros}");
        let source = json!({ "upload": { "repository": repository, "digest": digest } });
        let said = tenants.refusal(name, |content| content["source"] = source.clone());
        said.await
    };
    assert_eq!(
        taken("uploaded", "target").await,
        taken("unloaded", "nothing").await
    );
    // Volumes are the application's own; what is no path of a folder is none.
    let said = tenants.refusal("mounting", |content| {
        let path = "/data/../../etc";
        content["volumes"] = json!({ "data": { "path": path, "process": "web" } });
    });
    let said = said.await;
    assert!(said.contains("absolute, without `.`, `..`"), "{said}");
    assert_eq!(tenants.victims(), before);
    tenants.world.end(operator).await;
}

#[tokio::test]
async fn what_no_application_can_be_is_refused_before_it_is_kept() {
    let (tenants, operator) = Tenants::new("tricks").await;
    let cluster = &tenants.world.cluster;
    let try_apply = |object: &Value, words: &[&str]| {
        let words = [&["apply", "-f", "-"], words].concat();
        cluster.try_kubectl(&words, &object.to_string())
    };
    let plain = || {
        tenants
            .world
            .application(&tenants.attacker, "plain", &SERVE)
    };
    for name in ["with.dots", &"x".repeat(41), &"x".repeat(100)] {
        let mut named = plain();
        named["metadata"]["name"] = json!(name);
        let refused = try_apply(&named, &[]).unwrap_err();
        assert!(refused.contains("it is called by"), "{refused}");
    }
    for name in ["mallory.shop", "mallory.shop.production.more", "a.b..c"] {
        let metadata = json!({ "name": name });
        let object = tenants.world.object("Environment", &metadata, &json!({}));
        assert!(try_apply(&object, &[]).is_err(), "{name}");
    }
    for (field, value) in [
        (
            "bindings",
            json!({ "db": { "application": "acme/shop/production/target", "process": "web" } }),
        ),
        (
            "bindings",
            json!({ "db": { "application": "../target", "process": "web" } }),
        ),
        (
            "volumes",
            json!({ "data": { "path": "/data", "process": "../web" } }),
        ),
    ] {
        let mut wrong = plain();
        wrong["spec"]["content"][field] = value;
        assert!(try_apply(&wrong, &[]).is_err(), "{wrong}");
    }
    // Fields of pods are none of an application's: refused, or forgotten if somebody insists.
    let mut beyond = plain();
    beyond["spec"]["content"]["processes"]["web"]["hostNetwork"] = json!(true);
    beyond["spec"]["content"]["processes"]["web"]["securityContext"] =
        json!({ "privileged": true });
    beyond["spec"]["content"]["processes"]["web"]["serviceAccountName"] = json!("tappaas");
    beyond["spec"]["content"]["processes"]["web"]["nodeSelector"] = json!({ "a": "b" });
    let refused = try_apply(&beyond, &[]).unwrap_err();
    assert!(refused.contains("hostNetwork"), "{refused}");
    try_apply(&beyond, &["--validate=false"]).unwrap();
    let object = tenants.world.named("applications", "plain");
    cluster
        .wait(&tenants.attacker, &object, READY, "True")
        .await;
    let words = ["get", "pods", "-n", &tenants.attacker, "-o=json"];
    let pods: Value = serde_json::from_str(&cluster.kubectl(&words)).unwrap();
    let spec = &pods["items"][0]["spec"];
    for field in ["hostNetwork", "hostPID", "hostIPC", "nodeSelector"] {
        assert!(spec[field].is_null(), "{spec}");
    }
    assert_eq!(spec["automountServiceAccountToken"], json!(false));
    assert_ne!(spec["serviceAccountName"], json!("tappaas"));
    assert_eq!(spec["securityContext"]["runAsNonRoot"], json!(true));
    tenants.world.end(operator).await;
}

#[tokio::test]
async fn labels_and_owners_that_somebody_wrote_lead_nowhere() {
    let (tenants, operator) = Tenants::new("tampered").await;
    let cluster = &tenants.world.cluster;
    let before = tenants.victims();
    let labels = json!({
        "tappaas.dev/platform": tenants.world.installation.group,
        "tappaas.dev/tenant": "acme",
        "tappaas.dev/project": "shop",
        "tappaas.dev/environment": "production",
    });
    // The victim's labels, in a namespace that has them and is not the victim's.
    let fake = json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "tappaas-shop-production-00000000000000000000", "labels": labels } });
    let fake_namespace = fake["metadata"]["name"].as_str().unwrap();
    let mut faked = tenants
        .world
        .application(fake_namespace, "target", &["/program", "exit", "0"]);
    faked["metadata"]["labels"] = labels.clone();
    // And on an application in the attacker's, whose owner is the victim's.
    let uid = cluster.value(&tenants.victim, &tenants.target, ".metadata.uid");
    let mut labelled = tenants
        .world
        .application(&tenants.attacker, "target", &SERVE);
    labelled["metadata"]["labels"] = labels;
    labelled["metadata"]["annotations"] = json!({ "tappaas.dev/owners": format!("[{{\"kind\":\"Application\",\"name\":\"target\",\"uid\":\"{uid}\"}}]") });
    cluster.apply(&[fake.clone(), faked, labelled]);
    let object = tenants.world.named("applications", "target");
    cluster
        .wait(&tenants.attacker, &object, READY, "True")
        .await;
    let host = cluster.value(&tenants.attacker, &object, ".status.hosts[0]");
    assert_eq!(host, "target.production.shop.mallory.tampered.example");
    // The one in the foreign namespace was there first, and nobody has looked at it.
    let faked = cluster.value(fake_namespace, &object, ".status");
    assert_eq!(faked, "");
    let made = ["get", "deployments", "-n", fake_namespace, "-o=name"];
    assert_eq!(cluster.kubectl(&made), "");

    // Kubernetes removes what has an owner that is not in its namespace; the platform makes it anew, and of the victim's nothing goes.
    let owner =
        json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "target", "uid": uid }]);
    let patch = json!({ "metadata": { "ownerReferences": owner } }).to_string();
    let deployments = ["get", "deployments", "-n", &tenants.attacker, "-o=name"];
    let deployment = cluster.kubectl(&deployments);
    let uid_of = || cluster.value(&tenants.attacker, &deployment, ".metadata.uid");
    let first = uid_of();
    let words = [
        "patch",
        "-n",
        &tenants.attacker,
        &deployment,
        "--type=merge",
        "-p",
        &patch,
    ];
    cluster.kubectl(&words);
    let again = until("the deployment is made anew", async || {
        let now = uid_of();
        Ok((!now.is_empty() && now != first).then_some(()))
    });
    again.await.unwrap();
    cluster
        .wait(&tenants.attacker, &object, READY, "True")
        .await;
    assert_eq!(tenants.victims(), before);
    cluster.answers(&tenants.host, "victim /").await;
    cluster.kubectl(&["delete", "-n", fake_namespace, &object]);
    cluster.kubectl(&["delete", "namespace", fake_namespace]);
    tenants.world.end(operator).await;
}
