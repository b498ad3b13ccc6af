//! How a cluster is reached.

use std::path::{Path, PathBuf};

use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig},
};
use tappaas_core::{Error, Result};
use tower::util::MapRequestLayer;

use crate::Requests;

/// Where a cluster is, and who asks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Access {
    /// The cluster that this process runs in, as the service account of its pod.
    #[default]
    Pod,
    /// As a kubeconfig file says.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The context in it; `None`: its current one.
        context: Option<String>,
    },
}

impl Access {
    /// A client for the cluster, whose requests are counted. Nothing is asked of it yet.
    ///
    /// # Errors
    /// `Invalid` if a kubeconfig cannot be used, or this process runs in no pod; it says which, and why.
    pub async fn connect(&self, requests: &Requests) -> Result<Client> {
        let config = match self {
            Self::Pod => in_pod()?,
            Self::Kubeconfig { path, context } => by_file(path, context.clone()).await?,
        };
        let builder = ClientBuilder::try_from(config).map_err(|error| {
            Error::invalid("the way to the Kubernetes API cannot be used").with_source(error)
        })?;
        let requests = requests.clone();
        let count = MapRequestLayer::new(move |request: http::Request<Body>| {
            requests.count(&request);
            request
        });
        Ok(builder.with_layer(&count).build())
    }
}

/// By the address, since a cluster need not have its DNS yet.
fn in_pod() -> Result<Config> {
    Config::incluster_env().map_err(|error| {
        Error::invalid("this process runs in no pod with a service account; name a kubeconfig")
            .with_source(error)
    })
}

async fn by_file(path: &Path, context: Option<String>) -> Result<Config> {
    let wrong = |error| {
        Error::invalid(format!("cannot use kubeconfig {}", path.display())).with_source(error)
    };
    let file = Kubeconfig::read_from(path).map_err(wrong)?;
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(file, &options).await;
    config.map_err(wrong)
}
