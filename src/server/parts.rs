//! Opens what a configuration names, one function a component.

use std::sync::Arc;

#[cfg(feature = "cluster")]
use tappaas_core::Error;
use tappaas_core::{
    Clock, Ids, Result, Store,
    backend::{IngressProvider, Registry, Scheduler, Volumes},
};
#[cfg(feature = "cluster")]
use tappaas_k8s::PlatformId;
use tappaas_local::{Builder, BuilderParts, Confines};
use tappaas_store::Embedded;
use tappaas_tls::{Ingress, Place};

#[cfg(feature = "cluster")]
use super::{cluster, images::Images};
use super::{
    config::{IngressConfig, SchedulerConfig, ServerConfig, StoreConfig},
    leading::Leading,
};

/// What everything is opened with.
pub(super) struct Ground {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn Ids>,
    /// The database of this machine. Also where objects are kept elsewhere, there is what concerns this machine alone.
    pub(super) embedded: Arc<Embedded>,
    pub(super) images: tappaas_registry::Store,
    #[cfg(feature = "cluster")]
    pub(super) cluster: Option<tappaas_k8s::Client>,
    #[cfg(feature = "cluster")]
    pub(super) requests: tappaas_k8s::Requests,
    /// What this platform is to a cluster, once its store is open.
    #[cfg(feature = "cluster")]
    own: Option<PlatformId>,
}

impl Ground {
    pub(super) async fn open(
        config: &ServerConfig,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self> {
        let data = &config.data_dir;
        let embedded = tappaas_store::Config::new(data.join("store"));
        let embedded = Embedded::open(embedded, clock.clone(), ids.clone())?;
        let images = tappaas_registry::Config::new(data.join("registry"));
        #[cfg(feature = "cluster")]
        let requests = tappaas_k8s::Requests::default();
        Ok(Self {
            embedded: Arc::new(embedded),
            images: tappaas_registry::Store::open(images, clock.clone()).await?,
            #[cfg(feature = "cluster")]
            cluster: cluster::connect(config, &requests).await?,
            #[cfg(feature = "cluster")]
            requests,
            #[cfg(feature = "cluster")]
            own: None,
            clock,
            ids,
        })
    }

    /// What keeps the objects, and who acts of those that share it.
    pub(super) async fn store(
        &mut self,
        config: &StoreConfig,
    ) -> Result<(Arc<dyn Store>, Leading)> {
        match config {
            StoreConfig::Embedded => {
                #[cfg(feature = "cluster")]
                if self.cluster.is_some() {
                    let id = cluster::id(&*self.embedded, &*self.ids).await?;
                    self.own = Some(id.parse()?);
                }
                Ok((self.embedded.clone(), Leading::Alone))
            }
            #[cfg(feature = "etcd")]
            StoreConfig::Etcd { cluster, identity } => {
                let (clock, ids) = (self.clock.clone(), self.ids.clone());
                let keyspace = tappaas_etcd::Keyspace::open(cluster, clock, ids).await?;
                #[cfg(feature = "cluster")]
                if self.cluster.is_some() {
                    self.own = Some(keyspace.id().await?.parse()?);
                }
                let leading = Leading::etcd(&keyspace, identity.clone());
                Ok((Arc::new(keyspace), leading))
            }
            #[cfg(feature = "cluster")]
            StoreConfig::Kubernetes {
                group,
                namespace,
                identity,
            } => {
                let client = self.cluster()?;
                self.own = Some(PlatformId::of_group(group));
                let (clock, ids) = (self.clock.clone(), self.ids.clone());
                let store =
                    tappaas_k8s::KubernetesStore::new(client.clone(), group, clock.clone(), ids);
                let leading = Leading::kubernetes(client, namespace, identity.clone(), clock);
                Ok((Arc::new(store), leading))
            }
        }
    }

    /// The platform's own registry, and those that a cluster's nodes pull from besides.
    pub(super) fn registry(&self, config: &ServerConfig) -> Result<Arc<dyn Registry>> {
        let own = tappaas_registry::embedded::Registry::new(self.images.clone());
        let own = Arc::new(own);
        match &config.scheduler {
            SchedulerConfig::Local(_) => Ok(own),
            #[cfg(feature = "cluster")]
            SchedulerConfig::Kubernetes { .. } => {
                let others = cluster::others(&config.registry)?;
                Ok(Arc::new(Images { own, others }))
            }
        }
    }

    pub(super) async fn scheduling(
        &self,
        config: &ServerConfig,
        registry: &Arc<dyn Registry>,
    ) -> Result<Scheduling> {
        match &config.scheduler {
            SchedulerConfig::Local(local) => self.here((**local).clone(), registry).await,
            #[cfg(feature = "cluster")]
            SchedulerConfig::Kubernetes { workloads, volumes } => {
                let client = self.cluster()?;
                let (clock, workloads) = (self.clock.clone(), (**workloads).clone());
                let own = self.own()?;
                let scheduler = tappaas_k8s::KubernetesScheduler::new(
                    client.clone(),
                    own.clone(),
                    workloads,
                    clock,
                );
                let volumes = tappaas_k8s::KubernetesVolumes::new(client, own, volumes.clone());
                Ok(Scheduling {
                    scheduler: Arc::new(scheduler),
                    volumes: Arc::new(volumes),
                    confines: Confines::find(&config.local()).await?,
                    here: None,
                })
            }
        }
    }

    async fn here(
        &self,
        config: tappaas_local::SchedulerConfig,
        registry: &Arc<dyn Registry>,
    ) -> Result<Scheduling> {
        let (registry, durable) = (registry.clone(), self.embedded.clone());
        let (clock, ids) = (self.clock.clone(), self.ids.clone());
        let scheduler = tappaas_local::Scheduler::new(config, registry, durable, clock, ids);
        let scheduler = Arc::new(scheduler.await?);
        Ok(Scheduling {
            volumes: Arc::new(scheduler.volumes()),
            confines: scheduler.confines(),
            scheduler: scheduler.clone(),
            here: Some(scheduler),
        })
    }

    pub(super) async fn builder(
        &self,
        config: &ServerConfig,
        registry: &Arc<dyn Registry>,
        scheduling: &Scheduling,
    ) -> Result<Builder> {
        let parts = BuilderParts {
            registry: registry.clone(),
            durable: self.embedded.clone(),
            clock: self.clock.clone(),
            helper: config.helper.clone(),
            confines: scheduling.confines.clone(),
        };
        let builder = tappaas_local::BuilderConfig {
            elsewhere: scheduling.here.is_none(),
            ..config.builder.clone()
        };
        Builder::open(builder, &parts).await
    }

    pub(super) async fn routing(&self, config: &ServerConfig) -> Result<Routing> {
        match &config.ingress {
            IngressConfig::Edge(edge) => {
                let helper = config.helper.clone();
                let config = tappaas_tls::IngressConfig {
                    state: config.data_dir.join("edge"),
                    place: Place::Process { helper },
                    edge: edge.clone(),
                };
                let edge = Arc::new(Ingress::start(config, self.clock.clone()).await?);
                Ok(Routing {
                    ingress: edge.clone(),
                    edge: Some(edge),
                })
            }
            #[cfg(feature = "cluster")]
            IngressConfig::Kubernetes(settings) => {
                let client = self.cluster()?;
                let (own, settings) = (self.own()?, settings.clone());
                let clock = self.clock.clone();
                let ingress = tappaas_k8s::KubernetesIngress::connect(client, own, settings, clock);
                Ok(Routing {
                    ingress: Arc::new(ingress.await?),
                    edge: None,
                })
            }
        }
    }

    #[cfg(feature = "cluster")]
    fn own(&self) -> Result<PlatformId> {
        let unopened = || Error::internal("a cluster is used before the store is open");
        self.own.clone().ok_or_else(unopened)
    }

    #[cfg(feature = "cluster")]
    fn cluster(&self) -> Result<tappaas_k8s::Client> {
        let unnamed = || Error::internal("a cluster is used that nobody asked for");
        self.cluster.clone().ok_or_else(unnamed)
    }
}

/// What runs instances.
pub(super) struct Scheduling {
    pub(super) scheduler: Arc<dyn Scheduler>,
    pub(super) volumes: Arc<dyn Volumes>,
    /// How builds are confined.
    pub(super) confines: Confines,
    /// The scheduler once more, if it is this machine's.
    pub(super) here: Option<Arc<tappaas_local::Scheduler>>,
}

/// What brings requests.
pub(super) struct Routing {
    pub(super) ingress: Arc<dyn IngressProvider>,
    /// The ingress once more, if it is this machine's.
    pub(super) edge: Option<Arc<Ingress>>,
}
