//! Tenants, projects and domain pools, as whoever owns the platform writes them.

use serde_json::{Value, json};
use tappaas_testkit::conformance::until;

use crate::world::{READY, UNREADY, World};

const PRODUCTION: &str = "acme.shop.production";
const STAGING: &str = "acme.shop.staging";

fn instances(most: u32) -> Value {
    json!({ "limits": { "instances": most } })
}

#[tokio::test]
async fn a_tenant_shares_out_its_limits_and_its_domain() {
    let world = World::install("tenants", "unused", 0).await;
    let cluster = &world.cluster;
    let operator = world.operator("one").await;
    let apply = |kind: &str, name: &str, spec: &Value| {
        cluster.apply(&[world.object(kind, &json!({ "name": name }), spec)]);
    };
    let domains = json!({ "bases": ["acme-shops.example"], "tenants": ["acme"] });
    apply("DomainPool", "acme", &domains);
    apply("Tenant", "acme", &instances(5));
    apply("Project", "acme.shop", &json!({ "domainPool": "acme" }));
    apply("Environment", PRODUCTION, &instances(3));
    let production = world.named("environments", PRODUCTION);
    let staging = world.named("environments", STAGING);
    cluster.wait("default", &production, READY, "True").await;
    let namespace = cluster.value("default", &production, ".status.namespace");
    let quota =
        |namespace: &str| cluster.value(namespace, "resourcequota/tappaas", ".spec.hard.pods");
    assert_eq!(quota(&namespace), "3");
    let object = world.named("applications", "hello");
    let words = ["/program", "serve", "hello", "1ms"];
    cluster.apply(&[world.application(&namespace, "hello", &words)]);
    cluster.wait(&namespace, &object, READY, "True").await;
    let host = cluster.value(&namespace, &object, ".status.hosts[0]");
    assert_eq!(host, "hello.production.shop.acme-shops.example");
    cluster.answers(&host, "hello /").await;

    apply("Environment", STAGING, &instances(3));
    cluster.wait("default", &staging, READY, "False").await;
    let why = "the 2 that tenant acme has left of 5";
    cluster.tells("default", &staging, UNREADY, why).await;
    let namespaces = cluster.kubectl(&["get", "namespaces", "-o=name"]);
    assert!(!namespaces.contains("tappaas-shop-staging"), "{namespaces}");
    apply("Environment", PRODUCTION, &instances(2));
    cluster.wait("default", &staging, READY, "True").await;
    assert_eq!(quota(&namespace), "2");
    let tenant = world.named("tenants", "acme");
    let allotted = ".status.allotted.instances";
    cluster.wait("default", &tenant, allotted, "5").await;

    // Whatever is removed first goes last: what is inside needs it.
    let pool = world.named("domainpools", "acme");
    let project = world.named("projects", "acme.shop");
    for outer in [&pool, &tenant, &project] {
        cluster.kubectl(&["delete", outer, "--wait=false"]);
        cluster.wait("default", outer, READY, "False").await;
        let why = "is removed once nothing needs it";
        cluster.tells("default", outer, UNREADY, why).await;
    }
    cluster.answers(&host, "hello /").await;
    cluster.kubectl(&["delete", "-n", &namespace, &object, "--timeout=120s"]);
    cluster.kubectl(&["delete", &production, &staging, "--timeout=120s"]);
    let gone = until("all is gone", async || {
        let left = [&pool, &tenant, &project].map(|it| cluster.try_kubectl(&["get", it], ""));
        Ok(left.iter().all(Result::is_err).then_some(()))
    });
    gone.await.unwrap();
    operator.terminate();
    world.uninstall().await;
}
