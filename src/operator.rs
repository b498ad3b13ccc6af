use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tappaas_core::{
    Clock, Error, Ids, Result,
    backend::Registry,
    controller::Settings,
    model::Host,
    platform::{Backends, Platform},
};
use tappaas_k8s::{
    Candidate, Client, EventReporter, GivenImages, IngressSettings, KubernetesIngress,
    KubernetesScheduler, KubernetesStore, KubernetesVolumes, Needs, NoRegistry, PlatformId,
    SchedulerSettings, VolumeSettings, preflight,
};

use tappaas_registry::client as registry;

use crate::{RandomIds, SystemClock, system::LEASE};

/// Within this a lease is given back, or runs out by itself.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// How an operator is put together.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// The API group of its objects. It is what tells this platform from others on the cluster.
    pub group: String,
    /// The namespace that it is in itself.
    pub namespace: String,
    /// What tells it from its other replicas, such as the name of its pod.
    pub identity: String,
    /// The domain under which applications get their default hosts.
    pub base: Host,
    /// How workloads run.
    pub scheduler: SchedulerSettings,
    /// How requests come in.
    pub ingress: IngressSettings,
    /// Where volumes get their storage.
    pub volumes: VolumeSettings,
    /// Who is asked what an image's tag means, which needs the system's CA certificates. `None`: images are named by their digest.
    pub registry: Option<registry::Config>,
}

/// The whole control plane inside of a Kubernetes cluster, whose API is its store. It needs nothing besides.
///
/// It takes applications as images: there is no builder in it. Of several replicas one acts; the others follow what it does, and take over
/// when it is gone.
pub struct Operator {
    client: Client,
    config: OperatorConfig,
    platform: Platform,
    events: EventReporter,
    leads: AtomicBool,
    clock: Arc<dyn Clock>,
}

impl Operator {
    /// Puts the operator together, once the cluster has what it needs.
    ///
    /// # Errors
    /// What [`preflight`] says; `Unsupported` if the cluster serves no routes in a way that the settings name.
    pub async fn connect(client: Client, config: OperatorConfig) -> Result<Self> {
        preflight(&client, Needs::of_an_operator(&config.group)).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids: Arc<dyn Ids> = Arc::new(RandomIds);
        let group = &config.group;
        let store = KubernetesStore::new(client.clone(), group, clock.clone(), ids.clone());
        let store = Arc::new(store);
        let own = PlatformId::of_group(group);
        let settings = config.scheduler.clone();
        let scheduler =
            KubernetesScheduler::new(client.clone(), own.clone(), settings, clock.clone());
        let settings = config.ingress.clone();
        let ingress =
            KubernetesIngress::connect(client.clone(), own.clone(), settings, clock.clone())
                .await?;
        let images: Arc<dyn Registry> = match &config.registry {
            Some(asked) => Arc::new(registry::Registry::new(asked.clone(), &[])?),
            None => Arc::new(NoRegistry),
        };
        let volumes = KubernetesVolumes::new(client.clone(), own, config.volumes.clone());
        let backends = Backends {
            store: store.clone(),
            builder: Arc::new(GivenImages),
            registry: images,
            scheduler: Arc::new(scheduler),
            ingress: Arc::new(ingress),
            volumes: Arc::new(volumes),
        };
        let settings = Settings {
            base: config.base.clone(),
            // Images are only given here: that takes two writes to the store, and none of this machine's power.
            builds: Settings::default().concurrency,
            ..Settings::default()
        };
        let events = EventReporter::new(
            client.clone(),
            store,
            clock.clone(),
            group,
            &config.identity,
        );
        Ok(Self {
            platform: Platform::new(backends, settings, clock.clone(), ids)?,
            client,
            config,
            events,
            leads: AtomicBool::new(false),
            clock,
        })
    }

    /// The platform. It acts while [`Operator::run`] runs and leads.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// How it was put together.
    pub fn config(&self) -> &OperatorConfig {
        &self.config
    }

    /// Says whether it is this replica that acts.
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    /// Follows the cluster, and acts whenever it leads, until `stop` is done. Then it lets another replica lead at once.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut candidate = Candidate::new(
            self.client.clone(),
            &self.config.namespace,
            LEASE,
            &self.config.identity,
            self.clock.clone(),
        );
        let work = async || {
            let _leading = Leading::begin(&self.leads);
            tokio::select! {
                () = self.platform.control() => {}
                () = self.events.run() => {}
            }
        };
        tokio::select! {
            () = stop => {}
            () = self.platform.client().run() => {}
            () = candidate.lead(work) => {}
        }
        let released = tokio::time::timeout(RELEASE_MAX, candidate.release()).await;
        let late = |_| Err(Error::unavailable("the Kubernetes API does not answer"));
        if let Err(error) = released.unwrap_or_else(late) {
            tracing::warn!(%error, "the lease runs out by itself");
        }
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Stands for leading: nobody says when it ends.
struct Leading<'a>(&'a AtomicBool);

impl<'a> Leading<'a> {
    fn begin(leads: &'a AtomicBool) -> Self {
        leads.store(true, Ordering::Relaxed);
        Self(leads)
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
