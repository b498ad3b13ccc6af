//! How many instances run where the cluster decides it: a HorizontalPodAutoscaler writes the count of a deployment, and nobody else does.

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::{
            CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
            HorizontalPodAutoscalerStatus, MetricSpec, MetricTarget, ResourceMetricSource,
        },
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Resource as _,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::json;
use tappaas_core::{
    Error, Result,
    backend::{Autoscaling, Workload, WorkloadId},
    model::Autoscale,
};

use super::{
    KubernetesScheduler,
    applying::Recorded,
    controllers::{self, Form},
    names, parts,
};
use crate::{
    PlatformId,
    failure::{failure, within},
};

/// Who owns a deployment's count between us and the autoscaler. Were it nobody, the cluster would set it to 1 as soon as we let go of it.
const KEEPER: &str = "tappaas-autoscaling";

/// Refuses to autoscale what is no deployment.
///
/// # Errors
/// `Unsupported`, saying why.
pub(super) fn check(workload: &Workload, form: Form) -> Result<()> {
    match form {
        Form::StatefulSet | Form::Jobs if workload.autoscale.is_some() => {
            Err(Error::unsupported(format!(
                "workload {} cannot be autoscaled: it has a volume, or does not run on",
                workload.id
            )))
        }
        Form::Deployment | Form::StatefulSet | Form::Jobs => Ok(()),
    }
}

/// What decides how many instances a workload has.
pub(super) fn scaler(
    platform: &PlatformId,
    id: &WorkloadId,
    bounds: &Autoscale,
) -> HorizontalPodAutoscaler {
    let cpu = MetricSpec {
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget {
                average_utilization: Some(controllers::int(bounds.cpu_percent)),
                type_: "Utilization".to_owned(),
                ..MetricTarget::default()
            },
        }),
        type_: "Resource".to_owned(),
        ..MetricSpec::default()
    };
    HorizontalPodAutoscaler {
        metadata: parts::metadata(platform, id),
        spec: Some(HorizontalPodAutoscalerSpec {
            max_replicas: controllers::int(bounds.max),
            metrics: Some(vec![cpu]),
            min_replicas: Some(controllers::int(bounds.min)),
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some(Deployment::api_version(&()).into_owned()),
                kind: Deployment::kind(&()).into_owned(),
                name: names::name(id),
            },
            ..HorizontalPodAutoscalerSpec::default()
        }),
        ..HorizontalPodAutoscaler::default()
    }
}

/// The same, to go together with the deployment that it is for.
pub(super) fn owned(
    scaler: HorizontalPodAutoscaler,
    deployment: &ObjectMeta,
) -> HorizontalPodAutoscaler {
    let owner = OwnerReference {
        api_version: Deployment::api_version(&()).into_owned(),
        kind: Deployment::kind(&()).into_owned(),
        name: deployment.name.clone().unwrap_or_default(),
        uid: deployment.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    HorizontalPodAutoscaler {
        metadata: ObjectMeta {
            owner_references: Some(vec![owner]),
            ..scaler.metadata
        },
        ..scaler
    }
}

impl KubernetesScheduler {
    /// Hands the count of a deployment over to its autoscaler, within its bounds. Returns the revision that the deployment has then.
    ///
    /// # Errors
    /// `Conflict` if somebody else changed the deployment meanwhile, which the autoscaler may be.
    pub(super) async fn hand_over(
        &self,
        id: &WorkloadId,
        bounds: &Autoscale,
        last: Option<&Recorded>,
        revision: Option<String>,
    ) -> Result<Option<String>> {
        let now = last.map_or(0, |last| replicas(&last.object));
        let wanted = now.clamp(bounds.min, bounds.max);
        if now == wanted && last.is_some_and(is_handed_over) {
            return Ok(revision);
        }
        let count = json!({
            "apiVersion": Deployment::api_version(&()),
            "kind": Deployment::kind(&()),
            "metadata": { "name": names::name(id), "resourceVersion": revision },
            "spec": { "replicas": wanted },
        });
        let parameters = PatchParams::apply(KEEPER).force();
        let api = self.dynamic(Form::Deployment, id);
        let patched = within(api.patch(&names::name(id), &parameters, &Patch::Apply(count))).await;
        let patched = patched.map_err(|error| failure(format!("cannot scale {id}"), error))?;
        Ok(patched.metadata.resource_version)
    }

    /// How a workload is autoscaled, if it is.
    pub(super) async fn autoscaling(
        &self,
        id: &WorkloadId,
        last: &Recorded,
    ) -> Result<Option<Autoscaling>> {
        let Some(bounds) = last.record.bounds else {
            return Ok(None);
        };
        let api: Api<HorizontalPodAutoscaler> = self.api(id);
        let found = within(api.get_opt(&names::name(id))).await;
        let doing = || format!("cannot read the autoscaler of {id}");
        let found = found.map_err(|error| failure(doing(), error))?;
        Ok(Some(Autoscaling {
            bounds,
            wanted: replicas(&last.object),
            hindrance: hindrance(found.and_then(|found| found.status)),
        }))
    }
}

/// The count that a deployment has now, whoever set it.
pub(super) fn replicas(deployment: &DynamicObject) -> u32 {
    let replicas = deployment.data["spec"]["replicas"].as_u64();
    replicas
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(0)
}

/// Whether what was applied last says nothing of the count.
fn is_handed_over(last: &Recorded) -> bool {
    let applied = last.record.applied.as_ref();
    applied.is_some_and(|applied| applied.get("replicas").is_none())
}

/// Why an autoscaler does not scale by what instances use.
fn hindrance(status: Option<HorizontalPodAutoscalerStatus>) -> Option<String> {
    let conditions = status.and_then(|status| status.conditions);
    let conditions = conditions.unwrap_or_default();
    let active = conditions.iter().find(|one| one.type_ == "ScalingActive");
    if active.is_none() {
        return Some("the cluster's autoscaler has not looked at it yet".to_owned());
    }
    let mut lacking = conditions
        .iter()
        .filter(|one| one.status == "False" && one.type_ != "ScalingLimited");
    lacking
        .next()
        .map(|one| one.message.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition;

    use super::*;

    fn status(conditions: &[(&str, &str)]) -> Option<HorizontalPodAutoscalerStatus> {
        let each = conditions
            .iter()
            .map(|(type_, status)| HorizontalPodAutoscalerCondition {
                message: Some(format!("{type_} is {status}")),
                status: (*status).to_owned(),
                type_: (*type_).to_owned(),
                ..HorizontalPodAutoscalerCondition::default()
            });
        Some(HorizontalPodAutoscalerStatus {
            conditions: Some(each.collect()),
            ..HorizontalPodAutoscalerStatus::default()
        })
    }

    #[test]
    fn an_autoscaler_that_does_not_scale_says_why() {
        for (found, expected) in [
            (None, Some("not looked")),
            (status(&[("AbleToScale", "True")]), Some("not looked")),
            (
                status(&[("AbleToScale", "True"), ("ScalingActive", "False")]),
                Some("ScalingActive is False"),
            ),
            (
                status(&[("ScalingActive", "True"), ("ScalingLimited", "False")]),
                None,
            ),
        ] {
            let found = hindrance(found);
            match expected {
                Some(words) => assert!(found.unwrap().contains(words)),
                None => assert_eq!(found, None),
            }
        }
    }
}
