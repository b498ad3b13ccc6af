//! The volumes of a cluster without storage for them.

use async_trait::async_trait;
use tappaas_core::{
    Error, Name, Result,
    backend::{Volume, VolumeId, VolumeStatus, Volumes},
};

/// Keeps no volumes: an application that wants one is refused, and says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoVolumes;

#[async_trait]
impl Volumes for NoVolumes {
    async fn apply(&self, volume: &Volume) -> Result<()> {
        Err(none(&volume.id))
    }

    async fn observe(&self, _: &VolumeId) -> Result<Option<VolumeStatus>> {
        Ok(None)
    }

    async fn list(&self) -> Result<Vec<VolumeId>> {
        Ok(Vec::new())
    }

    async fn remove(&self, _: &VolumeId) -> Result<()> {
        Ok(())
    }

    async fn snapshot(&self, id: &VolumeId, _: &Name) -> Result<()> {
        Err(none(id))
    }
}

fn none(id: &VolumeId) -> Error {
    Error::unsupported(format!("there is no storage here for volume {id}"))
}
