use std::{collections::BTreeSet, fmt, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tappaas_core::{
    Clock, Durable, Ids, Result, Scope,
    backend::{
        self, Exec, ExecRequest, LogLine, LogRequest, Node, Peer, PeerAddress, Registry,
        SchedulerCapabilities, Workload, WorkloadId, WorkloadStatus,
    },
    model::{ApplicationKey, Limits},
};
use tokio::task::JoinHandle;

use super::{config::SchedulerConfig, confines::Confines, ground::Ground, world::World};
use crate::{
    sandbox::{Enforced, Isolation},
    volumes::Volumes,
};

/// Runs applications in sandboxes on this machine.
///
/// What was applied is kept in the store, *with the values of environments, unencrypted*. Instances outlive the scheduler: dropping it,
/// or killing its process, changes nothing for them, and the next scheduler on the same folder and store adopts them. After a reboot
/// what was applied is started again.
pub struct Scheduler {
    world: Arc<World>,
    sweeper: JoinHandle<()>,
}

impl Scheduler {
    /// Prepares this machine, and takes over what an earlier scheduler left in the same folder and store.
    ///
    /// # Errors
    /// `Unsupported` if the machine allows no sandboxes, with every way out; `Invalid` for an unfit config.
    pub async fn new(
        config: SchedulerConfig,
        registry: Arc<dyn Registry>,
        durable: Arc<dyn Durable>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self> {
        let ground = Ground::prepare(config, registry, durable, clock, ids).await?;
        let world = Arc::new(World::new(ground));
        let taken_over = world.take_over().await;
        let sweeper = tokio::spawn(Arc::clone(&world).keep_clean());
        let scheduler = Self { world, sweeper };
        taken_over.map(|()| scheduler)
    }

    /// The volumes that its instances mount.
    pub fn volumes(&self) -> Volumes {
        self.world.ground.volumes.clone()
    }

    /// Deletes what was of instances that are over, and gives back what their applications had. It happens by itself a moment after an
    /// instance ended; a process that is about to end waits for it here.
    pub async fn clean_up(&self) {
        self.world.clean_up().await;
    }

    /// How its instances are confined; so are builds on this machine.
    pub fn confines(&self) -> Confines {
        let ground = &self.world.ground;
        Confines {
            isolation: ground.isolation,
            networks: ground.networks.clone(),
            pasta: ground.config.network.pasta.clone(),
        }
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ground = &self.world.ground;
        let mut shown = f.debug_struct("Scheduler");
        shown
            .field("data_dir", &ground.config.data_dir)
            .field("isolation", &ground.isolation);
        shown.finish_non_exhaustive()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.sweeper.abort();
        self.world.close();
    }
}

#[async_trait]
impl backend::Scheduler for Scheduler {
    fn capabilities(&self) -> SchedulerCapabilities {
        let ground = &self.world.ground;
        let Enforced { memory, cpu, pids } = ground.enforced;
        SchedulerCapabilities {
            stepwise: true,
            limits: memory && cpu && pids,
            host_stack: true,
            dial_endpoints: ground.isolation == Isolation::Rootless && !ground.host_network(),
            service_endpoints: false,
            finds_ports: true,
            keeps_logs: true,
            namespaces: false,
            quotas: false,
            autoscaling: false,
            runtimes: BTreeSet::new(),
            secrets: None,
            stop_signals: true,
        }
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        Ok(vec![self.world.ground.node.clone()])
    }

    async fn prepare(&self, _: &Scope, limits: &Limits) -> Result<Option<String>> {
        limits.refuse()?;
        Ok(None)
    }

    async fn discard(&self, _: &Scope) -> Result<()> {
        Ok(())
    }

    async fn apply(&self, workload: &Workload) -> Result<()> {
        workload.refuse_autoscale()?;
        workload.check_runtimes(&BTreeSet::new())?;
        workload.check_references(None)?;
        self.world.apply(workload).await
    }

    async fn observe(&self, id: &WorkloadId) -> Result<Option<WorkloadStatus>> {
        Ok(self.world.observe(id))
    }

    async fn list(&self) -> Result<Vec<WorkloadId>> {
        Ok(self.world.list())
    }

    async fn remove(&self, id: &WorkloadId) -> Result<()> {
        self.world.remove(id).await
    }

    async fn logs(&self, request: &LogRequest) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.world.logs(request).await
    }

    async fn exec(&self, request: &ExecRequest) -> Result<Exec> {
        self.world.exec(request).await
    }

    async fn peer(&self, from: &ApplicationKey, peer: &Peer) -> Result<PeerAddress> {
        self.world.peer(from, peer).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, WorkloadId>> {
        Ok(self.world.changes.watch())
    }
}
