use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Resources, Runtime};

/// What a node offers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Offer {
    /// What can be given out.
    pub capacity: Capacity,
    /// Values that workloads select by; `zone` is the topology of [`Spread::Zone`].
    pub labels: BTreeMap<String, String>,
    /// What keeps workloads away that do not tolerate it.
    pub taints: Vec<Taint>,
}

/// Amounts that placement counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capacity {
    /// CPU in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Instances.
    pub instances: u32,
}

/// Where the instances of a workload may run.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Constraints {
    /// What an instance takes from its node.
    pub requests: Resources,
    /// The kind of node: told to schedulers that have several, and no matter of placement here.
    #[serde(skip_serializing_if = "Runtime::is_standard")]
    pub runtime: Runtime,
    /// Labels that the node must have.
    pub node_labels: BTreeMap<String, String>,
    /// Applications (by name, in the same environment) that must run on the same node.
    pub affinity: Vec<String>,
    /// Applications that must not run on the same node.
    pub anti_affinity: Vec<String>,
    /// How the instances of the workload keep apart.
    pub spread: Option<Spread>,
    /// Taints that do not keep it away.
    pub tolerations: Vec<Toleration>,
    /// Higher ones may push lower ones out.
    pub priority: i32,
}

/// How the instances of a workload keep apart.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// Evenly over nodes.
    Node,
    /// Evenly over zones.
    Zone,
}

/// What keeps workloads away from a node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Taint {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What it does.
    pub effect: Effect,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Nothing new comes that does not tolerate it.
    NoSchedule,
    /// It is avoided where something else can be found.
    PreferNoSchedule,
}

/// A taint that does not keep a workload away.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub struct Toleration {
    /// The taint's name.
    pub key: String,
    /// The taint's value; `None`: any.
    pub value: Option<String>,
}
