use std::{sync::Arc, time::Duration};

use tappaas_core::{Chain, Error, Result, model::ApplicationKey};

use super::world::World;

/// After something went, others often follow.
const LULL: Duration = Duration::from_millis(500);

impl World {
    /// Gives back what nothing refers to any more: logs, layers, networks, users. Never returns.
    pub(super) async fn keep_clean(self: Arc<Self>) {
        loop {
            self.sweep.notified().await;
            tokio::time::sleep(LULL).await;
            self.clean_up().await;
        }
    }

    /// Gives back what nothing refers to now. What cannot be is tried again with the next sweep.
    pub(super) async fn clean_up(&self) {
        let _one = self.sweeping.lock().await;
        for application in self.take_left() {
            if let Err(error) = self.give_back(&application).await {
                tracing::warn!(%application, error = %Chain(&error), "cannot give back what an application had; trying again later");
                self.put_left(application);
            }
        }
        if let Err(error) = self.clean().await {
            tracing::warn!(error = %Chain(&error), "cannot delete everything that is not used any more");
        }
    }

    /// Gives back what an application without workloads has of this machine. It is not deployed again meanwhile, for that takes the
    /// same turn; if it was before, this has nothing to do.
    async fn give_back(&self, application: &ApplicationKey) -> Result<()> {
        let _turn = self.turn(application).await;
        if self.applications().contains(application) {
            return Ok(());
        }
        self.close_doors(application).await?;
        if !self.ground.volumes.any_of(application)? {
            self.ground.slots.release(application).await?;
        }
        Ok(())
    }

    async fn clean(&self) -> Result<()> {
        let (old, folders) = (self.take_old_logs(), self.ground.folders.clone());
        let deleting = tokio::task::spawn_blocking(move || {
            for id in old {
                if let Err(error) = folders.delete(&id) {
                    tracing::warn!(instance = %id, %error, "cannot delete the folder of an instance");
                }
            }
        });
        deleting.await.map_err(|error| {
            Error::internal("deleting old logs was cut short").with_source(error)
        })?;
        self.ground.images.collect(|| self.images()).await
    }
}
