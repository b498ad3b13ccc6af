//! [`Volumes`] over PersistentVolumeClaims.

mod claim;
mod removing;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use tappaas_core::{
    Error, ErrorKind, Name, Result,
    backend::{Volume, VolumeId, VolumeStatus, Volumes},
};

use crate::{
    PlatformId,
    failure::{failure, is, within},
    labels::MANAGER,
    scheduler,
    store::Namespaces,
};

/// How often a volume is applied again because somebody else changed it meanwhile: the cluster's own controllers count, too.
const ATTEMPTS: u32 = 16;
/// How much longer it waits each time before it is.
const PAUSE: Duration = Duration::from_millis(20);
/// Objects per request of a listing.
const CHUNK: u32 = 500;

/// How [`KubernetesVolumes`] asks for storage.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VolumeSettings {
    /// The storage class of new volumes; `None`: the cluster's default one. Those that are there keep theirs.
    pub storage_class: Option<String>,
    /// The bytes asked for if a volume does not say, at least 1: Kubernetes has no claim without a size.
    pub size: u64,
}

impl Default for VolumeSettings {
    fn default() -> Self {
        Self {
            storage_class: None,
            size: 1 << 30,
        }
    }
}

/// Keeps volumes as PersistentVolumeClaims (`ReadWriteOnce`) in the namespaces of their environments.
///
/// A claim is called as the [scheduler](crate::KubernetesScheduler) mounts it. One that somebody else made under that name is refused and
/// left alone. What is asked for is written on it, since a claim itself can rise only once it is bound, and only if its storage class
/// expands volumes: until then [`VolumeStatus::notes`] tell of the difference, and every `apply` tries again.
///
/// Whether a size holds, and whether content survives its removal, is up to the storage class (`reclaimPolicy: Retain` keeps it for
/// whoever runs the cluster). How much is used the API does not tell. There are no snapshots: they need a CSI driver that takes them.
pub struct KubernetesVolumes {
    client: Client,
    platform: PlatformId,
    settings: VolumeSettings,
    namespaces: Namespaces,
}

impl KubernetesVolumes {
    /// The volumes of a platform on the cluster that `client` speaks to.
    pub fn new(client: Client, platform: PlatformId, settings: VolumeSettings) -> Self {
        Self {
            namespaces: Namespaces::new(client.clone(), platform.clone()),
            client,
            platform,
            settings,
        }
    }

    /// What is there under a volume's name, whoever made it.
    async fn read(&self, id: &VolumeId) -> Result<Option<PersistentVolumeClaim>> {
        let found = within(self.api(id).get_opt(&scheduler::claim(id))).await;
        found.map_err(|error| failure(format!("cannot read the claim of volume {id}"), error))
    }

    /// # Errors
    /// `Conflict` if somebody else was quicker; `NotFound` if the namespace has gone since it was seen.
    async fn create(&self, volume: &Volume) -> Result<()> {
        let id = &volume.id;
        self.namespaces.provide(&id.application.scope()).await?;
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let made = claim::new(&self.platform, volume, &self.settings);
        match within(self.api(id).create(&parameters, &made)).await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, 409) => {
                Err(Error::conflict(format!("somebody else made volume {id}")))
            }
            Err(error) => Err(failure(format!("cannot make volume {id}"), error)),
        }
    }

    /// # Errors
    /// `Conflict` if it is not any more as it was found.
    async fn change(&self, volume: &Volume, found: &PersistentVolumeClaim) -> Result<()> {
        let id = &volume.id;
        claim::check(&self.platform, id, found)?;
        let Some(wanted) = claim::change(volume, found)? else {
            return Ok(());
        };
        let api = self.api(id);
        let name = scheduler::claim(id);
        let parameters = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(wanted.object(&self.platform, id, found));
        let mut applied = within(api.patch(&name, &parameters, &patch)).await;
        if applied.as_ref().is_err_and(claim::cannot_grow) {
            let patch = Patch::Apply(wanted.without_growth(found).object(
                &self.platform,
                id,
                found,
            ));
            applied = within(api.patch(&name, &parameters, &patch)).await;
        }
        let applied = applied.map_err(|error| failure(format!("cannot change volume {id}"), error));
        applied.map(drop)
    }

    /// Whether a claim is that of a volume.
    fn is_of(&self, id: &VolumeId, found: &PersistentVolumeClaim) -> bool {
        claim::volume(&self.platform, &found.metadata).as_ref() == Some(id)
    }

    fn api(&self, id: &VolumeId) -> Api<PersistentVolumeClaim> {
        Api::namespaced(
            self.client.clone(),
            &self.namespaces.name(&id.application.scope()),
        )
    }
}

impl fmt::Debug for KubernetesVolumes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesVolumes")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Volumes for KubernetesVolumes {
    async fn apply(&self, volume: &Volume) -> Result<()> {
        let id = &volume.id;
        for attempt in 1..=ATTEMPTS {
            let applied = match self.read(id).await? {
                Some(found) => self.change(volume, &found).await,
                None => self.create(volume).await,
            };
            match applied {
                // What is there now is to be seen first.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.namespaces.forget(&id.application.scope());
                }
                done => return done,
            }
            tokio::time::sleep(PAUSE * attempt).await;
        }
        Err(Error::unavailable(format!(
            "volume {id} was changed by others {ATTEMPTS} times while it was applied"
        )))
    }

    async fn observe(&self, id: &VolumeId) -> Result<Option<VolumeStatus>> {
        let found = self.read(id).await?;
        let found = found.filter(|found| self.is_of(id, found));
        let staying = found.filter(|found| found.metadata.deletion_timestamp.is_none());
        Ok(staying.map(|found| VolumeStatus {
            used: None,
            notes: claim::notes(&found),
        }))
    }

    /// Those that are being removed are not any more.
    async fn list(&self) -> Result<Vec<VolumeId>> {
        let api: Api<PersistentVolumeClaim> = Api::all(self.client.clone());
        let mut request = ListParams::default()
            .labels(&claim::ours(&self.platform))
            .limit(CHUNK);
        let mut volumes = Vec::new();
        loop {
            let page = within(api.list_metadata(&request)).await;
            let page = page.map_err(|error| failure("cannot list the claims", error))?;
            let found = page.items.iter().map(|found| &found.metadata);
            let staying = found.filter(|metadata| metadata.deletion_timestamp.is_none());
            volumes.extend(staying.filter_map(|metadata| claim::volume(&self.platform, metadata)));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => request = request.continue_token(&token),
                None => return Ok(volumes),
            }
        }
    }

    async fn remove(&self, id: &VolumeId) -> Result<()> {
        self.delete(id).await
    }

    async fn snapshot(&self, id: &VolumeId, _: &Name) -> Result<()> {
        Err(Error::unsupported(format!(
            "volume {id} cannot be copied here: on Kubernetes that takes a CSI driver with VolumeSnapshots, which is not made use of"
        )))
    }
}
