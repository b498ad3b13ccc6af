use std::{path::PathBuf, sync::Arc, time::Duration};

use tappaas_core::{
    Clock, Error, Ids, Name, Result, backend,
    controller::Settings,
    model::{Host, Stop},
    platform::{Backends, Platform},
};
use tappaas_local::{Builder, BuilderConfig, BuilderParts, Scheduler, SchedulerConfig};
use tappaas_tls::{EdgeConfig, IngressConfig, Place};
use tokio::{task::JoinHandle, time::Instant};

use crate::{RandomIds, SystemClock};

/// How long instances may take to stop, all at once: the longest grace that a manifest can give, and what comes after it.
const STOP_MAX: Duration = Duration::from_secs(Stop::GRACE_SECONDS_MAX as u64 + 60);
/// How long requests may go on once their instances are gone.
const EDGE_DRAIN: Duration = Duration::from_secs(1);

/// How a platform on one machine is put together. Everything but the two paths has a default.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// The directory that holds everything, readable by its owner alone. One process at a time.
    pub data_dir: PathBuf,
    /// The program that instances and the edge run as: its `main` calls [`helper_main`] first thing.
    pub helper: PathBuf,
    /// The domain under which applications get their default hosts.
    pub base: Host,
    /// How instances run.
    pub scheduler: SchedulerConfig,
    /// How builds run.
    pub builder: BuilderConfig,
    /// How requests come in.
    pub edge: EdgeConfig,
}

impl MachineConfig {
    /// Everything in `data_dir`, by its defaults.
    pub fn new(data_dir: impl Into<PathBuf>, helper: impl Into<PathBuf>) -> Self {
        let (data_dir, helper) = (data_dir.into(), helper.into());
        Self {
            base: Settings::default().base,
            scheduler: SchedulerConfig::new(data_dir.join("local"), &helper),
            builder: BuilderConfig::new(data_dir.join("builds")),
            edge: EdgeConfig::default(),
            data_dir,
            helper,
        }
    }
}

/// Becomes an instance's or the edge's process if this one was started as such; otherwise returns at once.
///
/// Call it first thing in `main`, before threads and a runtime.
pub fn helper_main() {
    tappaas_local::helper_main();
    tappaas_tls::helper_main();
}

/// A platform on one machine, with everything embedded: store, registry, builder, sandboxes, edge.
///
/// Instances and the edge go on when it is closed or dropped, and the next one adopts them.
#[derive(Debug)]
pub struct Machine {
    platform: Platform,
    scheduler: Arc<Scheduler>,
    builder: Arc<Builder>,
    ingress: Arc<tappaas_tls::Ingress>,
    networks: Option<tappaas_local::Networks>,
    controllers: JoinHandle<()>,
}

impl Machine {
    /// Opens the data directory, adopts what runs, and starts the controllers.
    ///
    /// # Errors
    /// `Conflict` if another process has the directory; `Unsupported` if this machine cannot run instances, saying the ways out;
    /// `Unavailable` if an address is taken.
    pub async fn open(config: MachineConfig) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids: Arc<dyn Ids> = Arc::new(RandomIds);
        let data = &config.data_dir;
        let store = tappaas_store::Embedded::open(
            tappaas_store::Config::new(data.join("store")),
            clock.clone(),
            ids.clone(),
        )?;
        let store = Arc::new(store);
        let images = tappaas_registry::Config::new(data.join("registry"));
        let images = tappaas_registry::Store::open(images, clock.clone()).await?;
        let registry = Arc::new(tappaas_registry::embedded::Registry::new(images));
        let scheduler = Scheduler::new(
            config.scheduler,
            registry.clone(),
            store.clone(),
            clock.clone(),
            ids.clone(),
        )
        .await?;
        let parts = BuilderParts {
            registry: registry.clone(),
            durable: store.clone(),
            clock: clock.clone(),
            helper: config.helper.clone(),
            isolation: scheduler.isolation(),
            networks: scheduler.networks(),
            pasta: scheduler.pasta(),
        };
        let builder = Arc::new(Builder::open(config.builder, &parts).await?);
        let networks = parts.networks;
        let ingress = IngressConfig {
            state: data.join("edge"),
            place: Place::Process {
                helper: config.helper,
            },
            edge: config.edge,
        };
        let ingress = Arc::new(tappaas_tls::Ingress::start(ingress, clock.clone()).await?);
        let scheduler = Arc::new(scheduler);
        let backends = Backends {
            volumes: Arc::new(scheduler.volumes()),
            store,
            builder: builder.clone(),
            registry,
            scheduler: scheduler.clone(),
            ingress: ingress.clone(),
        };
        let settings = Settings {
            base: config.base,
            ..Settings::default()
        };
        let platform = Platform::new(backends, settings, clock, ids)?;
        let running = platform.clone();
        let controllers = tokio::spawn(async move { running.run().await });
        platform.client().sync().await;
        let [tenant, project, environment] = ["default", "default", "production"].map(Name::new);
        platform
            .create_environment(&tenant?, &project?, &environment?)
            .await?;
        Ok(Self {
            platform,
            scheduler,
            builder,
            ingress,
            networks,
            controllers,
        })
    }

    /// The platform.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The edge.
    pub fn ingress(&self) -> &Arc<tappaas_tls::Ingress> {
        &self.ingress
    }

    /// Stops the controllers, and what is being built, of which nothing is left when this returns. The next [`Machine::open`] begins it
    /// again.
    pub async fn close(&self) {
        self.controllers.abort();
        self.builder.close().await;
    }

    /// Stops the controllers, every instance, and the edge. The next [`Machine::open`] starts the applications again.
    ///
    /// # Errors
    /// What the backends say; what could be stopped is. `Unavailable` if an instance does not end though its grace is long over: it goes
    /// on, and so does the edge.
    pub async fn stop_applications(&self) -> Result<()> {
        self.close().await;
        self.stop_instances().await?;
        self.scheduler.clean_up().await;
        self.ingress.stop(EDGE_DRAIN).await?;
        match &self.networks {
            // Nothing runs any more. What was bound to another application still has its way there.
            Some(networks) => networks.clear().await,
            None => Ok(()),
        }
    }

    async fn stop_instances(&self) -> Result<()> {
        let scheduler: &dyn backend::Scheduler = &*self.scheduler;
        let mut failed = Ok(());
        for id in &scheduler.list().await? {
            failed = scheduler.remove(id).await.and(failed);
        }
        // Not by the wall clock, which somebody may set meanwhile.
        let deadline = Instant::now() + STOP_MAX;
        loop {
            let left = scheduler.list().await?;
            if left.is_empty() {
                return failed;
            }
            if Instant::now() >= deadline {
                failed?;
                let left: Vec<_> = left.iter().map(ToString::to_string).collect();
                return Err(Error::unavailable(format!(
                    "instances of {} do not end",
                    left.join(", ")
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.controllers.abort();
    }
}
