//! The end of a volume.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Preconditions},
    runtime::wait::{await_condition, conditions::is_deleted},
};
use tappaas_core::{Error, Result, backend::VolumeId};

use super::{CHUNK, KubernetesVolumes};
use crate::{
    failure::{failure, is, within},
    scheduler,
};

/// Within this a claim that no pod has is gone.
const REMOVAL_MAX: Duration = Duration::from_secs(30);

impl KubernetesVolumes {
    /// Deletes a volume's claim, and returns once it is gone. A pod that appears meanwhile does not get it any more.
    ///
    /// # Errors
    /// `Conflict` if a pod has it, also one that waits for it; `Unavailable` if it goes too slowly.
    pub(super) async fn delete(&self, id: &VolumeId) -> Result<()> {
        let found = self.read(id).await?;
        let Some(found) = found.filter(|it| self.is_of(id, it)) else {
            return Ok(());
        };
        if let Some(holder) = self.holder(id).await? {
            return Err(Error::conflict(format!(
                "volume {id} is held by {holder}; stop it first"
            )));
        }
        if found.metadata.deletion_timestamp.is_none() {
            self.begin_to_delete(id, &found).await?;
        }
        self.wait_for_the_end(id, &found).await
    }

    /// A pod that mounts a volume or is going to.
    async fn holder(&self, id: &VolumeId) -> Result<Option<String>> {
        let claim = scheduler::claim(id);
        let place = self.namespaces.name(&id.application.scope());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &place);
        let mut request = ListParams::default().limit(CHUNK);
        loop {
            let page = within(api.list(&request)).await;
            let page =
                page.map_err(|error| failure(format!("cannot ask who mounts volume {id}"), error))?;
            let mut pods = page.items.iter();
            if let Some(holder) = pods.find(|pod| mounts(pod, &claim)) {
                return Ok(Some(holder.name_any()));
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => request = request.continue_token(&token),
                None => return Ok(None),
            }
        }
    }

    async fn begin_to_delete(&self, id: &VolumeId, found: &PersistentVolumeClaim) -> Result<()> {
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: found.metadata.uid.clone(),
            resource_version: None,
        });
        let deleted = within(self.api(id).delete(&scheduler::claim(id), &parameters)).await;
        match deleted {
            Ok(_) => Ok(()),
            Err(error) if is(&error, 404) => Ok(()),
            Err(error) if is(&error, 409) => Err(Error::unavailable(format!(
                "volume {id} was made anew by somebody else while it was removed"
            ))),
            Err(error) => Err(failure(format!("cannot remove volume {id}"), error)),
        }
    }

    /// The cluster takes a claim away once it has seen that no pod has it.
    async fn wait_for_the_end(&self, id: &VolumeId, found: &PersistentVolumeClaim) -> Result<()> {
        let (api, name) = (self.api(id), scheduler::claim(id));
        let uid = found.uid().unwrap_or_default();
        let gone = await_condition(api, &name, is_deleted(&uid));
        let late = || format!("volume {id} is still being removed after {REMOVAL_MAX:?}");
        match tokio::time::timeout(REMOVAL_MAX, gone).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Error::unavailable(format!(
                "cannot see whether volume {id} is gone"
            ))
            .with_source(error)),
            Err(_) => Err(Error::unavailable(late())),
        }
    }
}

/// Whether a pod that is not over has a claim.
fn mounts(pod: &Pod, claim: &str) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let mut claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
    !matches!(phase, Some("Succeeded" | "Failed")) && claims.any(|it| it.claim_name == claim)
}
