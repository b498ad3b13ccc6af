//! Environments whose limits the cluster keeps.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{LimitRange, ResourceQuota},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use tappaas_core::{
    ErrorKind,
    backend::{Mount, Volume, VolumeId, Volumes as _, WorkloadStatus},
    model::{Limits, RestartPolicy},
};
use tappaas_k8s::KubernetesScheduler;
use tappaas_testkit::{
    Program,
    conformance::{scheduler::Stage, until},
};

use crate::{cluster::client, node::Node, storage::Storage};

/// The objects that keep the limits of an environment.
struct Kept {
    quotas: Api<ResourceQuota>,
    ranges: Api<LimitRange>,
}

/// Gives the environment of a workload limits.
async fn limit(stage: &Stage<'_>, scheduler: &KubernetesScheduler, limits: &Limits) -> Kept {
    use tappaas_core::backend::Scheduler as _;
    let environment = stage.id.application.scope();
    let namespace = scheduler.prepare(&environment, limits).await.unwrap();
    let (client, namespace) = (client().await, namespace.unwrap());
    Kept {
        quotas: Api::namespaced(client.clone(), &namespace),
        ranges: Api::namespaced(client, &namespace),
    }
}

/// A workload in an environment that nothing else is in.
fn stage<'a>(node: &'a Node, environment: &str) -> Stage<'a> {
    let mut stage = Stage::new(node);
    stage.id.application.environment = environment.parse().unwrap();
    stage
}

fn refused(status: &WorkloadStatus) -> bool {
    let mut unplaced = status.unplaced.iter();
    let says = |reason: &String| reason.starts_with("the limits of its environment leave no room");
    status.instances.is_empty() && unplaced.any(|it| it.missing == 1 && it.reasons.iter().any(says))
}

async fn hard(kept: &Kept) -> BTreeMap<String, Quantity> {
    let quota = kept.quotas.get("tappaas").await.unwrap();
    quota.spec.unwrap().hard.unwrap()
}

#[tokio::test]
async fn what_keeps_the_limits_is_set_right_and_goes_with_them() {
    let node = Node::take().await;
    let stage = stage(&node, "kept");
    let limits = Limits {
        cpu_millis: Some(2000),
        memory: Some(4 << 30),
        ..Limits::default()
    };
    let kept = limit(&stage, &node.scheduler, &limits).await;
    assert_eq!(hard(&kept).await["limits.cpu"].0, "2");
    let more = Patch::Merge(json!({ "spec": { "hard": { "limits.cpu": "64", "pods": "9" } } }));
    let parameters = PatchParams::default();
    let patched = kept.quotas.patch("tappaas", &parameters, &more).await;
    patched.unwrap();
    let nothing = DeleteParams::default();
    kept.ranges.delete("tappaas", &nothing).await.unwrap();
    limit(&stage, &node.scheduler, &limits).await;
    let hard = hard(&kept).await;
    // What somebody adds is theirs.
    assert_eq!(
        (hard["limits.cpu"].0.as_str(), hard["pods"].0.as_str()),
        ("2", "9")
    );
    let range = kept.ranges.get("tappaas").await.unwrap().spec.unwrap();
    assert_eq!(range.limits[0].default.as_ref().unwrap()["cpu"].0, "500m");
    limit(&stage, &node.scheduler, &Limits::default()).await;
    assert!(kept.quotas.get_opt("tappaas").await.unwrap().is_none());
    assert!(kept.ranges.get_opt("tappaas").await.unwrap().is_none());
}

#[tokio::test]
async fn what_asks_for_nothing_runs_within_the_limits() {
    let node = Node::take().await;
    let mut stage = stage(&node, "modest");
    let limits = Limits {
        cpu_millis: Some(1000),
        memory: Some(2 << 30),
        ..Limits::default()
    };
    limit(&stage, &node.scheduler, &limits).await;
    let template = stage.serving("a").await;
    stage.apply(&[(1, 2, &template)]).await.unwrap();
    stage.ready(2).await.unwrap();
    // As many more again, one at a time.
    let next = stage.serving("b").await;
    stage.apply(&[(2, 2, &next)]).await.unwrap();
    let replaced = stage.until("release 2 has replaced the other", |status| {
        let mut instances = status.instances.iter();
        status.instances.len() == 2 && instances.all(|one| one.ready && one.release == 2)
    });
    replaced.await.unwrap();
    limit(&stage, &node.scheduler, &Limits::default()).await;
}

#[tokio::test]
async fn what_runs_once_and_what_has_a_volume_says_that_the_limits_leave_no_room() {
    let node = Node::take().await;
    let storage = Storage::new().await;
    let limits = Limits {
        memory: Some(100 << 20),
        ..Limits::default()
    };
    let mut once = stage(&node, "tight");
    limit(&once, &node.scheduler, &limits).await;
    let mut template = once.template(Program::Idle).await;
    template.restart = RestartPolicy::Never;
    template.resources.memory = Some(200 << 20);
    once.apply(&[(1, 1, &template)]).await.unwrap();
    once.until("the job has no room", refused).await.unwrap();

    let mut writing = Stage::of(&node, "writing");
    writing.id.application.environment = once.id.application.environment.clone();
    let id = VolumeId {
        application: writing.id.application.clone(),
        name: "data".parse().unwrap(),
    };
    let volume = Volume {
        id: id.clone(),
        size: None,
    };
    storage.volumes.apply(&volume).await.unwrap();
    let mut template = writing.serving("a").await;
    template.resources.memory = Some(200 << 20);
    template.mounts.push(Mount {
        volume: id.clone(),
        path: "/data".into(),
        read_only: false,
    });
    writing.apply(&[(1, 1, &template)]).await.unwrap();
    let none = writing.until("what writes has no room", refused);
    none.await.unwrap();

    limit(&once, &node.scheduler, &Limits::default()).await;
    once.ready(1).await.unwrap();
    writing.ready(1).await.unwrap();
    once.scheduler.remove(&writing.id).await.unwrap();
    let removed = until("nobody holds the volume any more", async || {
        match storage.volumes.remove(&id).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            removed => Ok(Some(removed?)),
        }
    });
    removed.await.unwrap();
}

#[tokio::test]
async fn a_volume_beyond_the_limits_is_refused_until_there_is_room() {
    let node = Node::take().await;
    let storage = Storage::new().await;
    let stage = stage(&node, "small");
    let limits = Limits {
        storage: Some(1 << 30),
        ..Limits::default()
    };
    limit(&stage, &node.scheduler, &limits).await;
    let volume = Volume {
        id: VolumeId {
            application: stage.id.application.clone(),
            name: "data".parse().unwrap(),
        },
        size: Some(2 << 30),
    };
    // The cluster begins to count a little later than it is told to.
    let refused = until("the claim is refused", async || {
        let applied = storage.volumes.apply(&volume).await;
        storage.volumes.remove(&volume.id).await?;
        Ok(applied.err())
    });
    let refused = refused.await.unwrap();
    assert_eq!(refused.kind(), ErrorKind::Exhausted, "{refused}");
    assert!(
        refused.to_string().contains("requests.storage"),
        "{refused}"
    );
    limit(&stage, &node.scheduler, &Limits::default()).await;
    storage.volumes.apply(&volume).await.unwrap();
    storage.volumes.remove(&volume.id).await.unwrap();
}
