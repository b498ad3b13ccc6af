//! What a Kubernetes cluster does for a server.

use std::sync::Arc;

use tappaas_core::{Result, backend::Registry};
use tappaas_k8s::{Client, Needs, NoRegistry, Requests, preflight};
use tappaas_registry::client;

use super::config::{IngressConfig, RegistryConfig, SchedulerConfig, ServerConfig, StoreConfig};

/// A client for the cluster, which has what is asked of it. `None` if nothing is.
pub(super) async fn connect(config: &ServerConfig, requests: &Requests) -> Result<Option<Client>> {
    let group = match &config.store {
        StoreConfig::Kubernetes { group, .. } => Some(group.as_str()),
        _ => None,
    };
    let workloads = matches!(config.scheduler, SchedulerConfig::Kubernetes { .. });
    let routes = matches!(config.ingress, IngressConfig::Kubernetes(_));
    if group.is_none() && !workloads && !routes {
        return Ok(None);
    }
    let client = config.cluster.connect(requests).await?;
    let needs = Needs {
        group,
        workloads: workloads || routes,
        commands: workloads,
    };
    preflight(&client, needs).await?;
    Ok(Some(client))
}

/// The registries that are not the platform's own.
pub(super) fn others(config: &RegistryConfig) -> Result<Arc<dyn Registry>> {
    if config.tags_from.is_empty() {
        return Ok(Arc::new(NoRegistry));
    }
    let config = client::Config {
        only: Some(config.tags_from.clone()),
        ..client::Config::default()
    };
    Ok(Arc::new(client::Registry::new(config, &[])?))
}
