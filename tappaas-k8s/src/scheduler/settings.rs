use std::{collections::BTreeMap, time::Duration};

use tappaas_core::{
    Error, Result,
    backend::{Repository, Template},
    model::{Resources, Runtime},
    placement::Toleration,
};

/// How a [`KubernetesScheduler`](crate::KubernetesScheduler) runs workloads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SchedulerSettings {
    /// Where the cluster's nodes pull images from, such as `registry.example:5000`, if a repository does not name its registry.
    pub registry: Option<String>,
    /// How long an instance that is to stop goes on as before, so that all who send it requests learn that it goes. Whole seconds.
    pub drain_delay: Duration,
    /// What an instance may use if its process does not say.
    pub limits: Resources,
    /// Who brings requests from outside, and so may reach routed ports; nobody else may.
    pub gateways: Vec<GatewaySource>,
    /// Networks, in CIDR notation, that instances may reach without a binding.
    pub egress: Vec<Egress>,
    /// What processes get that ask for more than a standard runtime. A runtime that is not here is refused.
    pub runtimes: BTreeMap<Runtime, RuntimeNodes>,
    /// The PriorityClass of instances, which has to be there; `None`: the cluster's default one.
    pub priority_class: Option<String>,
}

/// The nodes of a runtime, and what an instance gets of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RuntimeNodes {
    /// The labels that such a node has.
    pub labels: BTreeMap<String, String>,
    /// The taints that keep others away from it.
    pub tolerations: Vec<Toleration>,
    /// A resource of the node and how much of it an instance gets, such as one `nvidia.com/gpu`.
    pub resource: Option<(String, u32)>,
}

/// Where requests from outside come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GatewaySource {
    /// Pods with all of some labels, in namespaces with all of others.
    Pods {
        /// The labels of their namespaces; at least one.
        namespace_labels: BTreeMap<String, String>,
        /// Their own labels; at least one.
        pod_labels: BTreeMap<String, String>,
    },
    /// A network, in CIDR notation: that of a gateway outside of the cluster.
    Network(String),
}

/// A network that instances may reach.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Egress {
    /// The network.
    pub network: String,
    /// The parts of it that they may not.
    pub except: Vec<String>,
}

/// The networks of RFC 1918, RFC 6598 and RFC 3927: where clusters have their nodes, pods and services, and clouds their secrets.
const PRIVATE: [&str; 5] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
];

impl SchedulerSettings {
    /// Settings for requests from these gateways.
    ///
    /// # Errors
    /// `Invalid` if there is none, so that no request would ever arrive, or one is everybody.
    pub fn new(gateways: Vec<GatewaySource>) -> Result<Self> {
        if gateways.is_empty() {
            return Err(Error::invalid(
                "name where requests from outside come from: the gateway's pods by labels, or its network",
            ));
        }
        let anybody = |gateway: &GatewaySource| match gateway {
            GatewaySource::Pods {
                namespace_labels,
                pod_labels,
            } => namespace_labels.is_empty() || pod_labels.is_empty(),
            GatewaySource::Network(_) => false,
        };
        if gateways.iter().any(anybody) {
            return Err(Error::invalid(
                "a gateway without labels of its pods and of their namespace would be every pod",
            ));
        }
        Ok(Self {
            registry: None,
            drain_delay: Duration::from_secs(5),
            limits: Resources {
                cpu_millis: None,
                memory: Some(512 << 20),
                pids: None,
            },
            gateways,
            egress: vec![Egress {
                network: "0.0.0.0/0".to_owned(),
                except: PRIVATE.map(str::to_owned).to_vec(),
            }],
            runtimes: BTreeMap::new(),
            priority_class: None,
        })
    }

    /// The nodes that the instances of a template run on.
    pub(super) fn nodes(&self, template: &Template) -> RuntimeNodes {
        let placement = &template.placement;
        let mut nodes = self
            .runtimes
            .get(&placement.runtime)
            .cloned()
            .unwrap_or_default();
        // Whoever runs the platform has the last word.
        for (label, value) in &placement.node_labels {
            let set = nodes.labels.entry(label.clone());
            set.or_insert_with(|| value.clone());
        }
        nodes
            .tolerations
            .extend(placement.tolerations.iter().cloned());
        nodes
    }

    /// The prefix of an image's name.
    pub(super) fn registry(&self, repository: &Repository) -> Option<&str> {
        match repository.registry() {
            Some(_) => None,
            None => self.registry.as_deref(),
        }
    }
}
