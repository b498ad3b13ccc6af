use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tappaas_core::{Chain, Result, model::ApplicationKey};

use super::world::World;

/// After something went, others often follow.
const LULL: Duration = Duration::from_millis(500);

impl World {
    /// Gives back what nothing refers to any more: logs, layers, networks, users. Never returns.
    pub(super) async fn keep_clean(self: Arc<Self>) {
        let mut before = self.applications();
        loop {
            self.sweep.notified().await;
            tokio::time::sleep(LULL).await;
            let now = self.applications();
            let left: BTreeSet<_> = before.difference(&now).cloned().collect();
            before = now;
            if let Err(error) = self.clean(&left).await {
                tracing::warn!(error = %Chain(&error), "cannot give back everything that is not used any more");
                before.extend(left);
            }
        }
    }

    async fn clean(&self, left: &BTreeSet<ApplicationKey>) -> Result<()> {
        for id in self.take_old_logs() {
            if let Err(error) = self.ground.folders.delete(&id) {
                tracing::warn!(instance = %id, %error, "cannot delete the folder of an instance");
            }
        }
        for application in left {
            self.close_doors(application).await?;
            if !self.ground.volumes.any_of(application) {
                self.ground.slots.release(application).await?;
            }
        }
        self.ground.images.collect(|| self.images()).await
    }
}
