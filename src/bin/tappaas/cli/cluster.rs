//! What has to be said of a Kubernetes cluster.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use anyhow::Result;
use clap::Args;
use serde::Deserialize;
use tappaas::k8s::{self, GatewaySource, RuntimeNodes};
use tappaas_core::model::{Host, Runtime};

use super::runtimes::{self, GpuResource, RuntimeLabel};

/// What an operator and its installation need to know.
#[derive(Args, Clone, Debug)]
#[group(id = "cluster")]
pub(crate) struct ClusterArgs {
    /// The API group of the platform's objects
    #[arg(long, value_name = "GROUP", default_value = k8s::GROUP)]
    pub(crate) group: String,

    /// The domain under which applications get their default hosts
    #[arg(long, value_name = "DOMAIN", default_value = "localhost")]
    pub(crate) base: Host,

    /// The Gateway that serves applications, if the cluster has the Gateway API
    #[arg(long, value_name = "NAMESPACE/NAME[/LISTENER]")]
    pub(crate) gateway: Option<GatewayName>,

    /// The ingress class that serves applications otherwise
    #[arg(long, value_name = "CLASS")]
    pub(crate) ingress_class: Option<String>,

    /// Pods that bring requests from outside; nobody else reaches applications
    #[arg(long, value_name = "NAMESPACE:LABEL=VALUE")]
    pub(crate) gateway_pods: Vec<GatewayPods>,

    /// A network that requests from outside come from, of a gateway outside of the cluster
    #[arg(long, value_name = "CIDR")]
    pub(crate) gateway_network: Vec<Network>,

    /// The storage class of volumes [default: the cluster's default one]
    #[arg(long, value_name = "CLASS")]
    pub(crate) storage_class: Option<String>,

    /// Nodes that processes ask for by their runtime's name; a taint like the label is tolerated
    #[arg(long, value_name = "RUNTIME=LABEL=VALUE")]
    pub(crate) runtime: Vec<RuntimeLabel>,

    /// What an instance with runtime `gpu` gets of its node [default: nvidia.com/gpu=1]
    #[arg(long, value_name = "NAME[=COUNT]")]
    pub(crate) gpu_resource: Option<GpuResource>,

    /// The PriorityClass of applications' pods, which the cluster has [default: the cluster's default one]
    #[arg(long, value_name = "NAME")]
    pub(crate) priority_class: Option<PriorityClass>,

    /// A registry that is asked what an image's tag means; images by their digest need none
    #[arg(long, value_name = "HOST")]
    pub(crate) tags_from: Vec<String>,
}

/// What `tappaas operator` needs to know besides.
#[derive(Args, Clone, Debug)]
pub(crate) struct OperatorArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = super::address, default_value = "127.0.0.1:9180")]
    pub(crate) admin: SocketAddr,

    /// The cluster, from outside of it [default: $KUBECONFIG, else the cluster that this runs in]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// The operator's own namespace, for what its replicas agree on [default: $TAPPAAS_NAMESPACE, else tappaas]
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

impl ClusterArgs {
    /// Where requests come from.
    pub(crate) fn gateways(&self) -> Vec<GatewaySource> {
        gateways(&self.gateway_pods, &self.gateway_network)
    }

    /// Which nodes each runtime means.
    pub(crate) fn runtimes(&self) -> Result<BTreeMap<Runtime, RuntimeNodes>> {
        runtimes::nodes(&self.runtime, self.gpu_resource.as_ref())
    }

    /// As it is typed, but for the group.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = vec![format!("--base={}", self.base)];
        let gateway = self
            .gateway
            .as_ref()
            .map(|it| format!("--gateway={}", it.0));
        let class = self.ingress_class.as_ref();
        words.extend(gateway);
        words.extend(class.map(|class| format!("--ingress-class={class}")));
        let pods = self.gateway_pods.iter();
        words.extend(pods.map(|pods| format!("--gateway-pods={}", pods.text)));
        let networks = self.gateway_network.iter();
        words.extend(networks.map(|network| format!("--gateway-network={}", network.0)));
        let storage = self.storage_class.iter();
        words.extend(storage.map(|class| format!("--storage-class={class}")));
        let runtimes = self.runtime.iter();
        words.extend(runtimes.map(|label| format!("--runtime={label}")));
        let devices = self.gpu_resource.iter();
        words.extend(devices.map(|resource| format!("--gpu-resource={resource}")));
        let priority = self.priority_class.iter();
        words.extend(priority.map(|class| format!("--priority-class={}", class.0)));
        let registries = self.tags_from.iter();
        words.extend(registries.map(|registry| format!("--tags-from={registry}")));
        words
    }
}

/// Where requests come from: of pods, and of networks.
pub(crate) fn gateways(pods: &[GatewayPods], networks: &[Network]) -> Vec<GatewaySource> {
    let pods = pods.iter().map(GatewayPods::source);
    let networks = networks.iter().map(|network| network.0.clone());
    pods.chain(networks.map(GatewaySource::Network)).collect()
}

/// A Gateway, written `namespace/name` or `namespace/name/listener`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct GatewayName(String);

impl FromStr for GatewayName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('/').collect();
        match (2..=3).contains(&parts.len()) && parts.iter().all(|part| !part.is_empty()) {
            true => Ok(Self(text.to_owned())),
            false => Err("expected NAMESPACE/NAME, such as projectcontour/contour".to_owned()),
        }
    }
}

impl From<GatewayName> for k8s::Gateway {
    fn from(name: GatewayName) -> Self {
        let mut parts = name.0.splitn(3, '/').map(str::to_owned);
        Self {
            namespace: parts.next().unwrap_or_default(),
            name: parts.next().unwrap_or_default(),
            section: parts.next(),
        }
    }
}

/// Pods of a namespace with a label, written `namespace:label=value`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct GatewayPods {
    text: String,
    namespace: String,
    label: (String, String),
}

impl GatewayPods {
    fn source(&self) -> GatewaySource {
        /// Which Kubernetes itself gives every namespace.
        const NAME: &str = "kubernetes.io/metadata.name";
        GatewaySource::Pods {
            namespace_labels: BTreeMap::from([(NAME.to_owned(), self.namespace.clone())]),
            pod_labels: BTreeMap::from([self.label.clone()]),
        }
    }
}

impl FromStr for GatewayPods {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (namespace, label) = text.split_once(':')?;
            let (name, value) = label.split_once('=')?;
            let full = [namespace, name, value].iter().all(|part| !part.is_empty());
            full.then(|| Self {
                text: text.to_owned(),
                namespace: namespace.to_owned(),
                label: (name.to_owned(), value.to_owned()),
            })
        };
        parse().ok_or_else(|| {
            "expected NAMESPACE:LABEL=VALUE, such as projectcontour:app=envoy".to_owned()
        })
    }
}

/// The name of a PriorityClass that applications may have: none of those that keep the cluster itself alive.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub(crate) struct PriorityClass(pub(crate) String);

impl FromStr for PriorityClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        let ends = [text.chars().next(), text.chars().next_back()];
        let good = ends
            .iter()
            .all(|end| end.is_some_and(|c| c.is_ascii_alphanumeric()));
        if !good || text.len() > 253 || !text.chars().all(plain) {
            return Err("expected the name of a PriorityClass, such as tenants".to_owned());
        }
        match text.starts_with("system-") {
            true => Err(format!(
                "`{text}` is for what keeps the cluster alive, which applications do not"
            )),
            false => Ok(Self(text.to_owned())),
        }
    }
}

/// An address and the length of its network's prefix (RFC 4632, RFC 4291).
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Network(String);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let length: u8 = length.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            (length <= most).then(|| Self(text.to_owned()))
        };
        parse().ok_or_else(|| "expected a network, such as 10.0.0.0/8".to_owned())
    }
}

read_as_text!(GatewayName, GatewayPods, Network, PriorityClass);

#[cfg(test)]
mod tests {
    use super::PriorityClass;

    #[test]
    fn the_classes_of_the_cluster_itself_are_not_for_applications() {
        assert_eq!(
            "tenants.low".parse::<PriorityClass>().unwrap().0,
            "tenants.low"
        );
        for (name, words) in [
            ("system-node-critical", "keeps the cluster alive"),
            ("", "expected the name"),
            ("Tenants", "expected the name"),
            ("-tenants", "expected the name"),
        ] {
            let refused = name.parse::<PriorityClass>().unwrap_err();
            assert!(refused.contains(words), "{name}: {refused}");
        }
    }
}
