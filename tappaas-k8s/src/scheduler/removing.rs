//! What is to go of a workload.

use k8s_openapi::api::{
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::Job,
    core::v1::{Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Error as KubeError,
    api::{DeleteParams, PropagationPolicy},
};
use tappaas_core::{Result, backend::WorkloadId};

use super::{KubernetesScheduler, applying::Namespaced, controllers::Form, names};
use crate::failure::{failure, is, within};

impl KubernetesScheduler {
    /// Removes all that is there of a workload. The environment last, for by that it is still listed: a pod that stops needs none.
    pub(super) async fn remove_all(&self, id: &WorkloadId) -> Result<()> {
        // What makes pods first, lest it makes more.
        for form in Form::ALL {
            self.remove_form(id, form).await?;
        }
        let name = names::name(id);
        self.remove_one::<Service>(id, &name).await?;
        self.remove_one::<HorizontalPodAutoscaler>(id, &name)
            .await?;
        self.remove_one::<PodDisruptionBudget>(id, &name).await?;
        self.remove_one::<NetworkPolicy>(id, &name).await?;
        self.remove_one::<ServiceAccount>(id, &name).await?;
        let api: Api<Secret> = self.api(id);
        for name in self.named(&api, id).await? {
            self.remove_one::<Secret>(id, &name).await?;
        }
        Ok(())
    }

    pub(super) async fn remove_form(&self, id: &WorkloadId, form: Form) -> Result<()> {
        if form == Form::Jobs {
            self.remove_jobs(id, |_| false).await?;
        }
        let api = self.dynamic(form, id);
        gone(
            id,
            within(api.delete(&names::name(id), &in_background())).await,
        )
    }

    pub(super) async fn remove_jobs(
        &self,
        id: &WorkloadId,
        stays: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let api: Api<Job> = self.api(id);
        for name in self.named(&api, id).await? {
            if !stays(&name) {
                gone(id, within(api.delete(&name, &in_background())).await)?;
            }
        }
        Ok(())
    }

    /// Removes the environments of earlier releases that no instance uses any more. One that is to replace another may need that of the
    /// release before, which is kept.
    pub(super) async fn forget_environments(&self, id: &WorkloadId, kept: &[&str]) -> Result<()> {
        let pods = self.pods(id).await?;
        let sources = pods
            .iter()
            .flat_map(|pod| &pod.spec)
            .flat_map(|spec| &spec.containers)
            .flat_map(|container| container.env_from.iter().flatten());
        let used: Vec<_> = sources
            .filter_map(|source| source.secret_ref.as_ref())
            .map(|secret| secret.name.as_str())
            .collect();
        let api: Api<Secret> = self.api(id);
        for name in self.named(&api, id).await? {
            if !kept.contains(&name.as_str()) && !used.contains(&name.as_str()) {
                self.remove_one::<Secret>(id, &name).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn remove_one<K>(&self, id: &WorkloadId, name: &str) -> Result<()>
    where
        K: Namespaced,
    {
        gone(
            id,
            within(self.api::<K>(id).delete(name, &in_background())).await,
        )
    }
}

fn in_background() -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    }
}

/// What is not there need not be removed.
fn gone<T>(id: &WorkloadId, answer: Result<T, KubeError>) -> Result<()> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if is(&error, 404) => Ok(()),
        Err(error) => Err(failure(format!("cannot remove what is of {id}"), error)),
    }
}
