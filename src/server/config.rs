use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tappaas_core::{controller::Settings, model::Host};
use tappaas_tls::EdgeConfig;

/// How a server is put together. Everything but the two paths has a default, for which this machine is all that is needed.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The directory that holds everything that is on this machine, readable by its owner alone. One process at a time.
    pub data_dir: PathBuf,
    /// The program that instances, builds and the edge run as: its `main` calls [`helper_main`](crate::helper_main) first thing.
    pub helper: PathBuf,
    /// The domain under which applications get their default hosts.
    pub base: Host,
    /// What keeps the objects.
    pub store: StoreConfig,
    /// How builds run. They always do on this machine.
    pub builder: tappaas_local::BuilderConfig,
    /// Who else may pull images of this machine's registry.
    pub registry: RegistryConfig,
    /// What runs instances.
    pub scheduler: SchedulerConfig,
    /// What brings requests to them.
    pub ingress: IngressConfig,
    /// The Kubernetes cluster, if one is named above.
    #[cfg(feature = "cluster")]
    pub cluster: tappaas_k8s::Access,
}

impl ServerConfig {
    /// Everything in `data_dir`, by its defaults.
    pub fn new(data_dir: impl Into<PathBuf>, helper: impl Into<PathBuf>) -> Self {
        let (data_dir, helper) = (data_dir.into(), helper.into());
        Self {
            base: Settings::default().base,
            store: StoreConfig::default(),
            builder: tappaas_local::BuilderConfig::new(data_dir.join("builds")),
            registry: RegistryConfig::default(),
            scheduler: SchedulerConfig::Local(Box::new(local(&data_dir, &helper))),
            ingress: IngressConfig::Edge(EdgeConfig::default()),
            #[cfg(feature = "cluster")]
            cluster: tappaas_k8s::Access::default(),
            data_dir,
            helper,
        }
    }

    /// The scheduler of this machine, by its defaults.
    #[cfg(feature = "cluster")]
    pub(super) fn local(&self) -> tappaas_local::SchedulerConfig {
        local(&self.data_dir, &self.helper)
    }
}

fn local(data_dir: &Path, helper: &Path) -> tappaas_local::SchedulerConfig {
    tappaas_local::SchedulerConfig::new(data_dir.join("local"), helper)
}

/// What keeps the objects.
#[derive(Clone, Debug, Default)]
pub enum StoreConfig {
    /// A database in the data directory.
    #[default]
    Embedded,
    /// An etcd cluster. Of several servers that share one keyspace one acts.
    #[cfg(feature = "etcd")]
    Etcd {
        /// Where it is.
        cluster: Box<tappaas_etcd::Config>,
        /// What tells this server from others.
        identity: String,
    },
    /// The API of the Kubernetes cluster. Of several servers that share one group and namespace one acts.
    #[cfg(feature = "cluster")]
    Kubernetes {
        /// The API group of the objects.
        group: String,
        /// The namespace of what the servers agree on.
        namespace: String,
        /// What tells this server from others.
        identity: String,
    },
}

/// Who else may pull images of this machine's registry. Nobody, by default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RegistryConfig {
    /// Where it is served, for pulling by digest and for nothing else. Whoever reaches this address gets what they know the digest of.
    pub listen: Option<SocketAddr>,
    /// What nodes call it, such as `images.example.com`, besides its address.
    pub names: Vec<String>,
    /// Registries that are asked what a tag of theirs means. No other is asked anything.
    pub tags_from: Vec<String>,
}

impl RegistryConfig {
    /// All that is known to lead to it: which names a network gives this machine besides, nobody tells.
    pub(super) fn all_names(&self) -> Vec<String> {
        let mut names = self.names.clone();
        if let Some(listen) = self.listen {
            let port = listen.port();
            names.push(listen.to_string());
            if listen.ip().is_unspecified() || listen.ip().is_loopback() {
                names.push(format!("localhost:{port}"));
            }
        }
        names
    }
}

/// What runs instances.
#[derive(Clone, Debug)]
pub enum SchedulerConfig {
    /// This machine.
    Local(Box<tappaas_local::SchedulerConfig>),
    /// The Kubernetes cluster. Its nodes pull what is built here from [`SchedulerSettings::registry`](tappaas_k8s::SchedulerSettings).
    #[cfg(feature = "cluster")]
    Kubernetes {
        /// How workloads run.
        workloads: Box<tappaas_k8s::SchedulerSettings>,
        /// Where volumes get their storage.
        volumes: tappaas_k8s::VolumeSettings,
    },
}

/// What brings requests to instances.
#[derive(Clone, Debug)]
pub enum IngressConfig {
    /// A proxy on this machine.
    Edge(EdgeConfig),
    /// The proxies of the Kubernetes cluster.
    #[cfg(feature = "cluster")]
    Kubernetes(tappaas_k8s::IngressSettings),
}
