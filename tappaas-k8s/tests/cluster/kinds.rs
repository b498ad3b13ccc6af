//! The definitions that are made from core's types, at the API server that judges them.

use std::sync::Arc;

use serde_json::{Value, json};
use tappaas_core::{
    ErrorKind, Kind, Metadata, Name, Object, Precondition, Scope, Store, memory,
    model::ApplicationSpec, object::API_VERSION,
};
use tappaas_k8s::{GROUP, KubernetesStore, definitions};

use crate::cluster::{client, define};

async fn store() -> KubernetesStore {
    let client = client().await;
    define(&client, definitions(GROUP)).await;
    let (clock, ids) = (memory::Clock::new(), memory::Ids::new());
    KubernetesStore::new(client, GROUP, Arc::new(clock), Arc::new(ids))
}

fn object(kind: Kind, spec: Value, status: Value) -> Object {
    let names = ["kinds", "p", "e"].map(|name| Name::new(name).unwrap());
    let [tenant, project, environment] = names;
    let scope = match kind.depth() {
        0 => Scope::cluster(),
        1 => Scope::tenant(tenant),
        2 => Scope::project(tenant, project),
        _ => Scope::environment(tenant, project, environment),
    };
    Object {
        api_version: API_VERSION.to_owned(),
        kind,
        metadata: Metadata::new(&scope, "sample"),
        spec,
        status,
    }
}

/// One with most of what it can have.
fn sample(kind: Kind) -> Object {
    let digest = format!("sha256:{}", "0a".repeat(32));
    let image = json!({ "repository": "apps/shop", "digest": digest });
    let content = json!({
        "source": { "upload": { "repository": "sources/shop", "digest": digest } },
        "build": { "strategy": "stack", "stack": null, "command": { "shell": "make" }, "attempt": 1, "name": "shop" },
        "processes": { "web": {
            "command": { "exec": ["/srv", "--port", "8080"] },
            "ports": [{ "name": "http", "number": 8080, "protocol": "http", "declared": true }],
            "resources": {}, "probes": {}, "stop": {}, "runtime": "high-performance",
        } },
        "environment": { "LEVEL": "debug" }, "overrides": {}, "config": { "A": "" },
        "volumes": { "data": { "path": "/data", "size": 1 << 30, "process": "web" } },
        "bindings": { "db": { "application": "postgres", "process": "db" } },
        "routes": [{ "hosts": ["a.example"], "path": "/", "process": "web", "strip": false }],
        "rollout": { "maxSurge": 1, "maxUnavailable": 0, "drainSeconds": 30, "deadlineSeconds": 300 },
        "releaseCommand": { "shell": "migrate" },
    });
    let application = json!({ "content": content, "scale": { "web": 3 }, "attempt": 1, "rollback": 2,
            "autoscale": { "web": { "min": 1, "max": 3, "cpuPercent": 50 } } });
    let limits = json!({ "cpuMillis": 500, "memory": 1_u64 << 40, "instances": 3, "storage": 1 });
    let allotment = json!({ "allotted": limits, "conditions": [] });
    let time = "2026-01-02T03:04:05.678901234Z";
    let (spec, status) = match kind {
        Kind::Application => (
            application,
            json!({
                "generation": 1, "current": null, "latest": 2, "phase": "running", "message": "a \"word\"",
                "draining": { "web-1": time }, "hosts": ["a.example"], "image": image,
            }),
        ),
        Kind::Build => (
            json!({ "application": "shop", "number": 1, "source": content["source"], "build": content["build"],
                "repository": "apps/shop", "cancelled": true }),
            json!({ "phase": "succeeded", "message": "", "started": time, "ended": null, "outcome": {
                "image": image, "processes": { "web": { "shell": "run" } }, "detected": "go", "stack": null, "cached": true } }),
        ),
        Kind::DomainPool => (
            json!({ "bases": ["a.example", "b.example"], "tenants": ["kinds"] }),
            json!({ "conditions": [] }),
        ),
        Kind::Environment => (
            json!({ "limits": limits }),
            json!({ "limits": limits, "namespace": "somewhere", "conditions": [] }),
        ),
        Kind::HostClaim => (
            json!({ "host": "a.example", "application": "kinds/p/e/shop" }),
            json!({}),
        ),
        Kind::Operation => (
            json!({ "application": "shop", "verb": "deploy", "generation": 4, "origin": digest, "before": application, "cancelled": false }),
            json!({ "state": "running", "message": "building", "release": 3, "build": 1, "ended": time }),
        ),
        Kind::Project => (json!({ "limits": limits, "domainPool": "pool" }), allotment),
        Kind::Release => (
            json!({ "application": "shop", "version": 1, "origin": digest, "image": image, "content": content,
                "detected": { "web": { "shell": "run" } } }),
            json!({ "phase": "rolling-out", "started": time, "command": true, "ports": { "web": 3000 } }),
        ),
        Kind::Tenant => (json!({ "limits": limits }), allotment),
        Kind::Volume => (
            json!({ "application": "shop", "volume": "data", "size": 1_u64 << 40 }),
            json!({ "used": 17 }),
        ),
        kind => panic!("no sample of kind {kind}"),
    };
    object(kind, spec, status)
}

#[tokio::test]
async fn objects_of_every_kind_are_read_back_as_they_were_written() {
    let store = store().await;
    for kind in Kind::ALL {
        let given = sample(kind);
        let key = given.key();
        store.delete(&key, Precondition::Present).await.unwrap();
        let made = store
            .put(given.clone(), Precondition::Absent)
            .await
            .unwrap();
        assert_eq!(made.spec, given.spec, "{kind}");
        let with_status = Object {
            status: given.status.clone(),
            ..made
        };
        store
            .put_status(with_status, Precondition::Present)
            .await
            .unwrap();
        let found = store.get(&key).await.unwrap().unwrap();
        assert_eq!(
            (found.spec, found.status),
            (given.spec, given.status),
            "{kind}"
        );
        store.delete(&key, Precondition::Present).await.unwrap();
    }
}

#[tokio::test]
async fn an_application_that_says_little_is_kept_from_every_source() {
    let store = store().await;
    let digest = format!("sha256:{}", "0a".repeat(32));
    for source in [
        json!({ "upload": { "repository": "sources/shop", "digest": digest } }),
        json!({ "git": { "url": "https://a.example/b.git", "reference": "main", "commit": "0a".repeat(20) } }),
        json!({ "image": { "reference": "a.example/b:1", "image": { "repository": "b", "digest": digest } } }),
    ] {
        let mut little = sample(Kind::Application);
        let content = little.spec["content"].as_object_mut().unwrap();
        content.retain(|field, _| ["source", "rollout"].contains(&field.as_str()));
        content.insert("source".to_owned(), source.clone());
        content.insert("build".to_owned(), json!({}));
        for field in ["environment", "overrides", "config", "volumes", "bindings"] {
            content.insert(field.to_owned(), json!({}));
        }
        content.insert("routes".to_owned(), json!([]));
        content.insert(
            "processes".to_owned(),
            json!({ "web": { "probes": { "readiness": null } } }),
        );
        // As the platform writes it: what is not there is null.
        let spec: ApplicationSpec = serde_json::from_value(little.spec.take()).unwrap();
        little.spec = serde_json::to_value(&spec).unwrap();
        assert!(little.spec["content"]["build"]["strategy"].is_null());
        let key = little.key();
        store.delete(&key, Precondition::Present).await.unwrap();
        let made = store.put(little.clone(), Precondition::Absent).await;
        assert_eq!(made.unwrap().spec, little.spec, "{source}");
        store.delete(&key, Precondition::Present).await.unwrap();
    }
}

#[tokio::test]
async fn a_field_that_the_definitions_lack_is_refused_and_not_forgotten() {
    let store = store().await;
    let mut newer = sample(Kind::Application);
    newer.spec["scales"] = json!({ "web": 1 });
    let refused = store.put(newer, Precondition::Absent).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert!(refused.to_string().contains("spec.scales"), "{refused}");
}

#[tokio::test]
async fn what_no_kind_can_be_is_refused_by_the_field_that_is_wrong() {
    let store = store().await;
    let mut negative = sample(Kind::Application);
    negative.spec["scale"]["web"] = json!(-1);
    let mut sourceless = sample(Kind::Application);
    sourceless.spec["content"]
        .as_object_mut()
        .unwrap()
        .remove("source");
    let mut unknown = sample(Kind::Application);
    unknown.spec["content"]["build"]["strategy"] = json!("magic");
    let mut verbless = sample(Kind::Operation);
    verbless.spec["verb"] = json!("dance");
    for (wrong, field) in [
        (negative, "spec.scale.web"),
        (sourceless, "spec.content.source"),
        (verbless, "spec.verb"),
        (unknown, "spec.content.build.strategy"),
    ] {
        let refused = store.put(wrong, Precondition::Absent).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert!(refused.to_string().contains(field), "{refused}");
    }
}
