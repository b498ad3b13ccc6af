//! What is said of a Kubernetes cluster.

use std::path::PathBuf;

use anyhow::Result;
use serde::Deserialize;
use tappaas::{IngressConfig, SchedulerConfig, StoreConfig, k8s};

use crate::{
    cli::{
        GatewayName, GatewayPods, GpuResource, Network, PriorityClass, RuntimeLabel, gateways,
        nodes,
    },
    place,
};

/// How the cluster is reached.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Cluster {
    /// By default `$KUBECONFIG`, else the cluster that this runs in.
    kubeconfig: Option<PathBuf>,
    /// By default the file's current one.
    context: Option<String>,
}

impl Cluster {
    pub(super) fn access(self) -> k8s::Access {
        access(self.kubeconfig, self.context)
    }
}

/// A cluster by its kubeconfig, else by the environment.
pub(in crate::serve) fn access(named: Option<PathBuf>, context: Option<String>) -> k8s::Access {
    match named.or_else(place::kubeconfig) {
        Some(path) => k8s::Access::Kubeconfig { path, context },
        None => k8s::Access::Pod,
    }
}

/// Objects in the cluster's API.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Objects {
    /// Their API group.
    group: String,
    /// Where servers agree on who acts.
    namespace: String,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            group: k8s::GROUP.to_owned(),
            namespace: "tappaas".to_owned(),
        }
    }
}

impl Objects {
    pub(super) fn store(self, identity: String) -> StoreConfig {
        StoreConfig::Kubernetes {
            group: self.group,
            namespace: self.namespace,
            identity,
        }
    }
}

/// How instances run in the cluster.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Workloads {
    /// Pods that bring requests from outside, `namespace:label=value`.
    gateway_pods: Vec<GatewayPods>,
    /// Networks that requests from outside come from, of a gateway outside of the cluster.
    gateway_network: Vec<Network>,
    /// Of volumes. By default the cluster's default one.
    storage_class: Option<String>,
    /// Nodes that processes ask for by their runtime's name, `runtime=label=value`.
    runtime: Vec<RuntimeLabel>,
    /// What an instance with runtime `gpu` gets of its node, `name=count`.
    gpu_resource: Option<GpuResource>,
    /// Of applications' pods.
    priority_class: Option<PriorityClass>,
}

impl Workloads {
    /// The scheduler, whose nodes pull what was built here from `registry`.
    pub(super) fn scheduler(self, registry: Option<String>) -> Result<SchedulerConfig> {
        let gateways = gateways(&self.gateway_pods, &self.gateway_network);
        let workloads = k8s::SchedulerSettings {
            registry,
            priority_class: self.priority_class.map(|class| class.0),
            runtimes: nodes(&self.runtime, self.gpu_resource.as_ref())?,
            ..k8s::SchedulerSettings::new(gateways)?
        };
        Ok(SchedulerConfig::Kubernetes {
            workloads: Box::new(workloads),
            volumes: k8s::VolumeSettings {
                storage_class: self.storage_class,
                ..k8s::VolumeSettings::default()
            },
        })
    }
}

/// Where routes are served in the cluster.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Routes {
    /// The Gateway, `namespace/name` or `namespace/name/listener`.
    gateway: Option<GatewayName>,
    /// The ingress class, if the cluster has no Gateway API.
    class: Option<String>,
}

impl Routes {
    pub(super) fn ingress(self) -> IngressConfig {
        IngressConfig::Kubernetes(k8s::IngressSettings {
            gateway: self.gateway.map(Into::into),
            class: self.class,
            settle: k8s::IngressSettings::SETTLE,
        })
    }
}
