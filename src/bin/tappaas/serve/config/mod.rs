//! The configuration file.

mod etcd;
mod kubernetes;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tappaas::{
    IngressConfig, RandomIds, RegistryConfig, SchedulerConfig, ServerConfig, Settings, StoreConfig,
    local, tls,
};
use tappaas_core::{
    Ids as _,
    backend::Repository,
    model::{EnvValue, Host},
};

pub(super) use self::kubernetes::access;
use self::{
    etcd::Etcd,
    kubernetes::{Cluster, Objects, Routes, Workloads},
};
use crate::{
    cli::{Isolation, ServeArgs},
    place::{self, DataDir},
};

/// The configuration file. Every key is optional; the name of a backend's table is the backend.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Config {
    /// Where applications are served.
    http: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub(super) admin: SocketAddr,
    /// The domain under which applications get their default hosts.
    base: Host,
    store: Store,
    registry: Registry,
    scheduler: Scheduler,
    builder: Builder,
    ingress: Ingress,
    /// The Kubernetes cluster that backends called `kubernetes` are in.
    kubernetes: Cluster,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Store {
    Embedded(Embedded),
    Etcd(Etcd),
    Kubernetes(Objects),
}

/// Nothing is to be said of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Embedded {}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Registry {
    Embedded(Pulls),
}

/// Who else may pull what the embedded registry has.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Pulls {
    /// Where nodes of a cluster pull images from.
    listen: Option<SocketAddr>,
    /// What nodes call this registry.
    name: Option<String>,
    /// Registries that are asked what a tag means.
    tags_from: Vec<String>,
}

impl Pulls {
    /// What nodes call this registry.
    fn named(&self) -> Option<String> {
        let named = self.name.clone();
        named.or_else(|| Some(self.listen?.to_string()))
    }

    /// Refuses what no node could pull from.
    fn check(&self) -> Result<()> {
        let Some(listen) = self.listen else {
            bail!(
                "[scheduler.kubernetes] needs `listen` under [registry.embedded]: where nodes pull what is built here"
            );
        };
        if self.name.is_none() && (listen.ip().is_unspecified() || listen.port() == 0) {
            bail!(
                "`listen` of [registry.embedded] is no address for nodes: say with `name` what they call it"
            );
        }
        let name = self.named().unwrap_or_default();
        let repository: Option<Repository> = format!("{name}/x").parse().ok();
        match repository.as_ref().and_then(Repository::registry) == Some(&name) {
            true => Ok(()),
            false => bail!(
                "`{name}` is no name of a registry: expected a host with a dot or a port, such as images.example.com"
            ),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Scheduler {
    Local(Box<local::SchedulerConfig>),
    Kubernetes(Workloads),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Builder {
    Local(local::BuilderConfig),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Ingress {
    Edge(tls::EdgeConfig),
    Kubernetes(Routes),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9180)),
            base: Settings::default().base,
            store: Store::Embedded(Embedded::default()),
            registry: Registry::Embedded(Pulls::default()),
            scheduler: Scheduler::Local(Box::default()),
            builder: Builder::Local(local::BuilderConfig::default()),
            ingress: Ingress::Edge(tls::EdgeConfig::default()),
            kubernetes: Cluster::default(),
        }
    }
}

impl Config {
    /// Reads the file, if one was named, and applies what was said on the command line.
    pub(super) fn read(args: &ServeArgs) -> Result<Self> {
        let mut config = match &args.config {
            Some(path) => Self::parse(path)?,
            None => Self::default(),
        };
        config.http = args.http.unwrap_or(config.http);
        config.admin = args.admin.unwrap_or(config.admin);
        match (args.isolation, &mut config.scheduler) {
            (None, _) => {}
            (Some(isolation), Scheduler::Local(scheduler)) => {
                scheduler.isolation = match isolation {
                    Isolation::Auto => local::Confinement::Sandbox,
                    Isolation::None => local::Confinement::None,
                };
            }
            (Some(_), Scheduler::Kubernetes(_)) => {
                bail!("--isolation is for instances on this machine; they run in the cluster")
            }
        }
        Ok(config)
    }

    /// Says whether applications are to run without a sandbox.
    pub(super) fn unconfined(&self) -> bool {
        match &self.scheduler {
            Scheduler::Local(scheduler) => scheduler.isolation == local::Confinement::None,
            Scheduler::Kubernetes(_) => false,
        }
    }

    fn parse(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        let config: Self = toml::from_str(&text).with_context(|| format!("cannot use {shown}"))?;
        config
            .check()
            .with_context(|| format!("cannot use {shown}"))?;
        Ok(config)
    }

    /// Refuses what cannot be meant, before anything is opened.
    fn check(&self) -> Result<()> {
        let Registry::Embedded(pulls) = &self.registry;
        match (&self.scheduler, &self.ingress) {
            (Scheduler::Kubernetes(_), Ingress::Edge(_)) => bail!(
                "[scheduler.kubernetes] needs [ingress.kubernetes]: only the cluster's own proxies reach its services"
            ),
            (Scheduler::Local(_), Ingress::Kubernetes(_)) => bail!(
                "[ingress.kubernetes] needs [scheduler.kubernetes]: the cluster's proxies do not reach instances on this machine"
            ),
            (Scheduler::Local(_), _) if pulls.listen.is_some() || pulls.name.is_some() => bail!(
                "`listen` and `name` of [registry.embedded] are for [scheduler.kubernetes]: nobody else pulls images"
            ),
            (Scheduler::Local(_), _) if !matches!(self.store, Store::Embedded(_)) => bail!(
                "[store.etcd] and [store.kubernetes] need [scheduler.kubernetes]: another server that takes over would start everything on its own machine, without the volumes of this one"
            ),
            (Scheduler::Kubernetes(_), _) => pulls.check(),
            _ => Ok(()),
        }
    }

    /// What the server is put together from.
    pub(super) fn server(self, data: &DataDir) -> Result<ServerConfig> {
        let defaults = ServerConfig::new(data.path(), place::program()?);
        let Registry::Embedded(pulls) = self.registry;
        let named = pulls.named();
        let identity = || place::identity().unwrap_or_else(|| RandomIds.unique());
        Ok(ServerConfig {
            base: self.base,
            store: match self.store {
                Store::Embedded(_) => StoreConfig::Embedded,
                Store::Etcd(etcd) => StoreConfig::Etcd {
                    cluster: Box::new(etcd.cluster()?),
                    identity: identity(),
                },
                Store::Kubernetes(objects) => objects.store(identity()),
            },
            registry: RegistryConfig {
                listen: pulls.listen,
                names: named.iter().cloned().collect(),
                tags_from: pulls.tags_from,
            },
            builder: self.builder.config(&defaults),
            scheduler: match self.scheduler {
                Scheduler::Local(scheduler) => local_scheduler(scheduler, &defaults),
                Scheduler::Kubernetes(workloads) => workloads.scheduler(named)?,
            },
            ingress: match self.ingress {
                Ingress::Edge(mut edge) => {
                    edge.listen = vec![self.http];
                    IngressConfig::Edge(edge)
                }
                Ingress::Kubernetes(routes) => routes.ingress(),
            },
            cluster: self.kubernetes.access(),
            ..defaults
        })
    }
}

impl Builder {
    fn config(self, defaults: &ServerConfig) -> local::BuilderConfig {
        let Self::Local(mut builder) = self;
        for (name, value) in place::build_environment() {
            let set = builder.environment.entry(name);
            set.or_insert_with(|| EnvValue::new(value));
        }
        builder.data_dir.clone_from(&defaults.builder.data_dir);
        builder
    }
}

fn local_scheduler(
    mut config: Box<local::SchedulerConfig>,
    defaults: &ServerConfig,
) -> SchedulerConfig {
    config.data_dir = defaults.data_dir.join("local");
    config.helper.clone_from(&defaults.helper);
    SchedulerConfig::Local(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let parsed = toml::from_str::<Config>(text).map_err(anyhow::Error::from);
        let checked = parsed.and_then(|config| config.check());
        format!("{:#}", checked.unwrap_err())
    }

    #[test]
    fn a_cluster_is_said_in_a_few_tables() {
        let text = "
            base = 'apps.example.com'
            [kubernetes]
            kubeconfig = '/etc/tappaas/kubeconfig'
            [store.etcd]
            endpoints = ['http://127.0.0.1:2379']
            [registry.embedded]
            listen = '10.0.0.1:5000'
            [scheduler.kubernetes]
            gateway-pods = ['projectcontour:app=envoy']
            storage-class = 'fast'
            [ingress.kubernetes]
            gateway = 'projectcontour/contour'
        ";
        let config: Config = toml::from_str(text).unwrap();
        config.check().unwrap();
        assert!(!config.unconfined());
        let data = DataDir::find(Some(Path::new("/nowhere"))).unwrap();
        let server = config.server(&data).unwrap();
        let StoreConfig::Etcd { cluster, .. } = &server.store else {
            panic!("{:?}", server.store);
        };
        assert_eq!(cluster.prefix, "/tappaas");
        let SchedulerConfig::Kubernetes { workloads, volumes } = &server.scheduler else {
            panic!("{:?}", server.scheduler);
        };
        assert_eq!(workloads.registry.as_deref(), Some("10.0.0.1:5000"));
        assert_eq!(workloads.gateways.len(), 1);
        assert_eq!(volumes.storage_class.as_deref(), Some("fast"));
        let IngressConfig::Kubernetes(routes) = &server.ingress else {
            panic!("{:?}", server.ingress);
        };
        assert_eq!(routes.gateway.as_ref().unwrap().name, "contour");
    }

    #[test]
    fn backends_that_cannot_go_together_are_refused() {
        let scheduler = "[scheduler.kubernetes]\ngateway-network = ['10.0.0.0/8']\n";
        assert!(refused(scheduler).contains("[ingress.kubernetes]"));
        assert!(refused("[ingress.kubernetes]\nclass = 'x'").contains("[scheduler.kubernetes]"));
        let pulls = "[registry.embedded]\nlisten = '10.0.0.1:5000'";
        assert!(refused(pulls).contains("[scheduler.kubernetes]"));
        let etcd = "[store.etcd]\nendpoints = ['http://127.0.0.1:2379']";
        assert!(refused(etcd).contains("[scheduler.kubernetes]"));
    }

    #[test]
    fn a_registry_that_no_node_could_pull_from_is_refused() {
        let cluster = "[scheduler.kubernetes]\ngateway-network = ['10.0.0.0/8']\n\
             [ingress.kubernetes]\ngateway = 'a/b'\n";
        let told = |registry: &str| refused(&format!("{cluster}[registry.embedded]\n{registry}"));
        assert!(told("").contains("needs `listen`"));
        assert!(told("listen = '0.0.0.0:5000'").contains("say with `name`"));
        assert!(told("listen = '10.0.0.1:0'").contains("say with `name`"));
        for name in [
            "images",
            "http://images.example.com",
            "images.example.com/a",
        ] {
            let registry = format!("listen = '0.0.0.0:5000'\nname = '{name}'");
            assert!(told(&registry).contains("no name of a registry"), "{name}");
        }
    }

    #[test]
    fn words_that_nobody_knows_are_refused_by_name() {
        assert!(refused("[scheduler.nomad]").contains("nomad"));
        assert!(refused("[store.etcd]\nendpoint = 'x'").contains("endpoint"));
        let network = "[scheduler.kubernetes]\ngateway-network = ['10.0.0.0']";
        assert!(refused(network).contains("10.0.0.0/8"));
    }
}
