//! The objects that make pods.

use k8s_openapi::{
    api::{
        apps::v1::{
            DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        batch::v1::{Job, JobSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::api::ApiResource;
use serde_json::{Value, json};
use tappaas_core::{
    backend::{Template, WorkloadId},
    model::{RestartPolicy, Rollout},
};

use super::{names, parts};
use crate::PlatformId;

/// Restarts of what is restarted until it succeeds: more than ever come to pass.
const RESTARTS_MAX: i32 = 1_000_000;
/// Old templates that are kept to look at. A rollback is a new release.
const HISTORY_MAX: i32 = 1;

/// What makes the pods of a workload. The object also records what was applied last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// Instances that run on and replace each other.
    Deployment,
    /// Instances with a volume: one stops before the next starts, since a volume has one writer and is attached to one node.
    StatefulSet,
    /// Instances that run once: a job each. What was applied is recorded in a config map.
    Jobs,
}

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::Jobs];

    pub(super) fn of(template: &Template) -> Self {
        match (template.restart, template.mounts.is_empty()) {
            (RestartPolicy::Always, true) => Self::Deployment,
            (RestartPolicy::Always, false) => Self::StatefulSet,
            (RestartPolicy::OnFailure | RestartPolicy::Never, _) => Self::Jobs,
        }
    }

    /// The kind of the object that records what was applied.
    pub(super) fn resource(self) -> ApiResource {
        let (group, kind, plural) = match self {
            Self::Deployment => ("apps", "Deployment", "deployments"),
            Self::StatefulSet => ("apps", "StatefulSet", "statefulsets"),
            Self::Jobs => ("", "ConfigMap", "configmaps"),
        };
        ApiResource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            api_version: format!("{group}/v1").trim_start_matches('/').to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }
}

/// What a deployment or a stateful set has to be, with as many pods as somebody else says if no count is given; nothing of a config map.
pub(super) fn spec(
    form: Form,
    id: &WorkloadId,
    count: Option<u32>,
    rollout: &Rollout,
    pods: PodTemplateSpec,
) -> Option<Value> {
    let spec = match form {
        Form::Deployment => serde_json::to_value(deployment(id, count, rollout, pods)),
        Form::StatefulSet => serde_json::to_value(stateful_set(id, count, pods)),
        Form::Jobs => return None,
    };
    Some(spec.expect("a spec has string keys only"))
}

fn deployment(
    id: &WorkloadId,
    count: Option<u32>,
    rollout: &Rollout,
    pods: PodTemplateSpec,
) -> DeploymentSpec {
    let surge = match rollout.max_unavailable {
        0 => rollout.max_surge.max(1),
        _ => rollout.max_surge,
    };
    let number = |number: u32| Some(IntOrString::Int(int(number)));
    DeploymentSpec {
        // What is not asked for its readiness has run for a second.
        min_ready_seconds: Some(i32::from(!is_probed(&pods))),
        // As it was begun, see `idle`.
        paused: Some(false),
        progress_deadline_seconds: Some(int(rollout.deadline_seconds).max(2)),
        replicas: count.map(int),
        revision_history_limit: Some(HISTORY_MAX),
        selector: names::selector(names::selected(id)),
        strategy: Some(DeploymentStrategy {
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: number(surge),
                max_unavailable: number(rollout.max_unavailable),
            }),
            type_: Some("RollingUpdate".to_owned()),
        }),
        template: pods,
    }
}

fn stateful_set(id: &WorkloadId, count: Option<u32>, pods: PodTemplateSpec) -> StatefulSetSpec {
    StatefulSetSpec {
        min_ready_seconds: Some(i32::from(!is_probed(&pods))),
        pod_management_policy: Some("Parallel".to_owned()),
        replicas: count.map(int),
        revision_history_limit: Some(HISTORY_MAX),
        selector: names::selector(names::selected(id)),
        service_name: Some(names::name(id)),
        template: pods,
        update_strategy: Some(StatefulSetUpdateStrategy {
            type_: Some("RollingUpdate".to_owned()),
            ..StatefulSetUpdateStrategy::default()
        }),
        ..StatefulSetSpec::default()
    }
}

/// The job of one instance, called so that the same one is never there twice.
pub(super) fn job(
    platform: &PlatformId,
    id: &WorkloadId,
    release: u64,
    ordinal: u32,
    restart: RestartPolicy,
    mut pods: PodTemplateSpec,
) -> Job {
    let (policy, restarts) = match restart {
        RestartPolicy::OnFailure => ("OnFailure", RESTARTS_MAX),
        RestartPolicy::Always | RestartPolicy::Never => ("Never", 0),
    };
    if let Some(spec) = &mut pods.spec {
        spec.restart_policy = Some(policy.to_owned());
    }
    let metadata = parts::metadata(platform, id);
    let mut labels = names::labels(platform, id);
    labels.insert(names::RELEASE.to_owned(), release.to_string());
    Job {
        metadata: ObjectMeta {
            labels: Some(labels),
            name: Some(job_name(id, release, ordinal)),
            ..metadata
        },
        spec: Some(JobSpec {
            backoff_limit: Some(restarts),
            template: pods,
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// The names of the jobs of so many instances.
pub(super) fn job_names(id: &WorkloadId, release: u64, count: u32) -> Vec<String> {
    (0..count)
        .map(|ordinal| job_name(id, release, ordinal))
        .collect()
}

/// A spec of what makes no pods yet, with nothing in it that another spec could lack: what is created is never taken away by applying.
pub(super) fn idle(spec: &Value) -> Value {
    let container = &spec["template"]["spec"]["containers"][0];
    let mut idle = json!({
        "replicas": 0,
        "selector": spec["selector"],
        "template": {
            "metadata": { "labels": spec["selector"]["matchLabels"] },
            "spec": { "containers": [{ "name": container["name"], "image": container["image"] }] },
        },
    });
    match spec.get("serviceName") {
        Some(service) => {
            idle["serviceName"] = service.clone();
            idle["podManagementPolicy"] = spec["podManagementPolicy"].clone();
        }
        // A deployment's controller would make a replica set of this, and then another one.
        None => idle["paused"] = json!(true),
    }
    idle
}

fn job_name(id: &WorkloadId, release: u64, ordinal: u32) -> String {
    format!("{}-{release}-{ordinal}", names::name(id))
}

fn is_probed(pods: &PodTemplateSpec) -> bool {
    let mut containers = pods.spec.iter().flat_map(|spec| &spec.containers);
    containers.any(|container| container.readiness_probe.is_some())
}

pub(super) fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
