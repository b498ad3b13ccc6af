//! What a Kubernetes cluster does for a server.

use std::sync::Arc;

use tappaas_core::{Batch, Durable, Error, Ids, Result, backend::Registry};
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

/// What tells the platform of a data directory from all others on a cluster: made once, and durable before anything is labelled with it.
pub(super) async fn id(durable: &dyn Durable, ids: &dyn Ids) -> Result<String> {
    const TABLE: &str = "platform";
    const ROW: &[u8] = b"id";
    let found = match durable.get(TABLE, ROW).await? {
        Some(found) => found,
        None => {
            let made = ids.unique().into_bytes();
            let batch = Batch::new().check(TABLE, ROW, None);
            durable.commit(batch.put(TABLE, ROW, &made)).await?;
            made
        }
    };
    String::from_utf8(found).map_err(|error| {
        Error::internal("the id of this platform in the data directory is damaged")
            .with_source(error)
    })
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

#[cfg(test)]
mod tests {
    use tappaas_core::memory;

    use super::*;

    #[tokio::test]
    async fn a_data_directory_has_one_id_for_ever() {
        let (durable, ids) = (memory::Durable::new(), memory::Ids::new());
        let first = id(&durable, &ids).await.unwrap();
        assert_eq!(id(&durable, &ids).await.unwrap(), first);
        let other = id(&memory::Durable::new(), &ids).await.unwrap();
        assert_ne!(other, first);
        first.parse::<tappaas_k8s::PlatformId>().unwrap();
    }
}
