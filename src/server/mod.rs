//! A platform put together from a configuration.

#[cfg(feature = "cluster")]
mod cluster;
mod config;
#[cfg(feature = "cluster")]
mod images;
mod leading;
mod parts;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tappaas_core::{
    Chain, Clock, Error, Ids, Name, Result,
    controller::Settings,
    model::Stop,
    platform::{Backends, Platform},
};
use tappaas_local::Builder;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::config::{IngressConfig, RegistryConfig, SchedulerConfig, ServerConfig, StoreConfig};
use self::{leading::Leading, parts::Ground};
use crate::{RandomIds, SystemClock};

/// How long instances may take to stop, all at once: the longest grace that a manifest can give, and what comes after it.
const STOP_MAX: Duration = Duration::from_secs(Stop::GRACE_SECONDS_MAX as u64 + 60);
/// How long requests may go on once their instances are gone.
const EDGE_DRAIN: Duration = Duration::from_secs(1);
/// Within this another server is let lead, or has to wait.
const RELEASE_MAX: Duration = Duration::from_secs(5);
/// So many nodes pull at once; more wait.
const PULLS_MAX: usize = 256;

/// Becomes an instance's or the edge's process if this one was started as such; otherwise returns at once.
///
/// Call it first thing in `main`, before threads and a runtime.
pub fn helper_main() {
    tappaas_local::helper_main();
    tappaas_tls::helper_main();
}

/// A platform with its controllers. By default everything is embedded in this machine: store, registry, builder, sandboxes, edge.
///
/// Instances and the edge go on when it is closed or dropped, and the next one adopts them.
#[derive(Debug)]
pub struct Server {
    platform: Platform,
    builder: Arc<Builder>,
    here: Option<Arc<tappaas_local::Scheduler>>,
    edge: Option<Arc<tappaas_tls::Ingress>>,
    pulls: Option<SocketAddr>,
    #[cfg(feature = "cluster")]
    requests: tappaas_k8s::Requests,
    stop: CancellationToken,
    /// Until it is closed.
    running: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Opens what the configuration names, adopts what runs, and starts the controllers. Where servers share a store this returns once
    /// this one acts.
    ///
    /// # Errors
    /// `Conflict` if another process has the data directory; `Unsupported` if this machine cannot run what it is to run, or backends do not
    /// fit together, saying the ways out; `Denied` with what a cluster does not allow; `Unavailable` if an address is taken.
    pub async fn open(config: ServerConfig) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids: Arc<dyn Ids> = Arc::new(RandomIds);
        let mut ground = Ground::open(&config, clock.clone(), ids.clone()).await?;
        let (store, leading) = ground.store(&config.store).await?;
        let registry = ground.registry(&config)?;
        let scheduling = ground.scheduling(&config, &registry).await?;
        let builder = Arc::new(ground.builder(&config, &registry, &scheduling).await?);
        let routing = ground.routing(&config).await?;
        let backends = Backends {
            store,
            builder: builder.clone(),
            registry,
            scheduler: scheduling.scheduler,
            ingress: routing.ingress,
            volumes: scheduling.volumes,
        };
        let settings = Settings {
            base: config.base,
            registry_names: config.registry.all_names(),
            ..Settings::default()
        };
        let platform = Platform::new(backends, settings, clock, ids)?;
        let stop = CancellationToken::new();
        let pulls = serve_pulls(&config.registry, ground.images, &stop).await?;
        let (leads, mut led) = watch::channel(false);
        let running = run(platform.clone(), leading, leads, stop.clone());
        let server = Self {
            running: Mutex::new(Some(tokio::spawn(running))),
            here: scheduling.here,
            edge: routing.edge,
            platform,
            builder,
            pulls,
            #[cfg(feature = "cluster")]
            requests: ground.requests,
            stop,
        };
        let led = led.wait_for(|leads| *leads).await;
        led.map_err(|_| Error::internal("the controllers ended before they began"))?;
        server.begin().await?;
        Ok(server)
    }

    /// Everybody has an environment to begin with.
    async fn begin(&self) -> Result<()> {
        self.platform.client().sync().await;
        let [tenant, project, environment] = ["default", "default", "production"].map(Name::new);
        let platform = &self.platform;
        platform
            .create_environment(&tenant?, &project?, &environment?)
            .await?;
        Ok(())
    }

    /// The platform.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The edge, if requests come in by this machine.
    pub fn edge(&self) -> Option<&Arc<tappaas_tls::Ingress>> {
        self.edge.as_ref()
    }

    /// Where images are pulled from, if they are.
    pub fn pulls(&self) -> Option<SocketAddr> {
        self.pulls
    }

    /// What was asked of the cluster, if there is one.
    #[cfg(feature = "cluster")]
    pub fn requests(&self) -> &tappaas_k8s::Requests {
        &self.requests
    }

    /// Stops the controllers, and what is being built, of which nothing is left when this returns. The next [`Server::open`] begins it
    /// again.
    pub async fn close(&self) {
        self.stop.cancel();
        if let Some(mut running) = self.take_running()
            && timeout(2 * RELEASE_MAX, &mut running).await.is_err()
        {
            running.abort();
        }
        self.builder.close().await;
    }

    /// Stops the controllers, every instance, and the edge. The next [`Server::open`] starts the applications again.
    ///
    /// # Errors
    /// What the backends say; what could be stopped is. `Unavailable` if an instance does not end though its grace is long over: it goes
    /// on, and so does the edge.
    pub async fn stop_applications(&self) -> Result<()> {
        self.close().await;
        self.stop_instances().await?;
        if let Some(here) = &self.here {
            here.clean_up().await;
        }
        if let Some(edge) = &self.edge {
            edge.stop(EDGE_DRAIN).await?;
        }
        match self.here.as_ref().and_then(|here| here.confines().networks) {
            // Nothing runs any more. What was bound to another application still has its way there.
            Some(networks) => networks.clear().await,
            None => Ok(()),
        }
    }

    fn take_running(&self) -> Option<JoinHandle<()>> {
        let running = self.running.lock();
        running.unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn stop_instances(&self) -> Result<()> {
        let scheduler = &self.platform.backends().scheduler;
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

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.take_running() {
            running.abort();
        }
    }
}

/// Follows the store, and acts whenever this server leads, until it is told to stop.
async fn run(
    platform: Platform,
    mut leading: Leading,
    leads: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let work = || {
        leads.send_replace(true);
        platform.control()
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = platform.client().run() => {}
        () = leading.lead(work) => {}
    }
    let late = |_| Err(Error::unavailable("whoever keeps it does not answer"));
    let released = timeout(RELEASE_MAX, leading.release()).await;
    if let Err(error) = released.unwrap_or_else(late) {
        tracing::warn!("what tells who leads runs out by itself: {}", Chain(&error));
    }
}

/// Lets others pull images, if anybody is to.
async fn serve_pulls(
    config: &RegistryConfig,
    images: tappaas_registry::Store,
    stop: &CancellationToken,
) -> Result<Option<SocketAddr>> {
    let Some(address) = config.listen else {
        return Ok(None);
    };
    let taken = |error| {
        Error::unavailable(format!("images cannot be served at {address}")).with_source(error)
    };
    let listener = TcpListener::bind(address).await.map_err(taken)?;
    let bound = listener.local_addr().map_err(taken)?;
    let pulls = tappaas_registry::server::pulls(images);
    let stop = stop.clone().cancelled_owned();
    tokio::spawn(tappaas_registry::server::serve(
        listener, pulls, PULLS_MAX, stop,
    ));
    Ok(Some(bound))
}
