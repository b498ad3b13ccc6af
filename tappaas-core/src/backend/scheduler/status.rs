//! How what is to run is, and where.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Digest, Name, Timestamp, model::Autoscale};

/// The identity of an instance, unique over all instances that ever were.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct InstanceId(pub String);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How a workload is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The generation last applied.
    pub generation: u64,
    /// [`Workload::content`](super::Workload::content) of what was last applied.
    pub content: Digest,
    /// The count last applied, per release.
    pub counts: BTreeMap<u64, u32>,
    /// Every instance, stopping ones included, in order of age.
    pub instances: Vec<InstanceStatus>,
    /// What could not be placed, and why.
    pub unplaced: Vec<Unplaced>,
    /// What becomes of [`Workload::autoscale`](super::Workload::autoscale), if that was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Where a port of the ready instances is reached, by the port's name, if the scheduler balances by itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<Name, Endpoint>,
    /// What somebody else changed of it since it was applied, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<String>,
}

/// How a workload is autoscaled.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// The bounds last applied.
    pub bounds: Autoscale,
    /// How many instances the scheduler wants now.
    pub wanted: u32,
    /// Why it does not know how many are right, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindrance: Option<String>,
}

/// Instances that could not be placed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unplaced {
    /// Of which release.
    pub release: u64,
    /// How many.
    pub missing: u32,
    /// Why no node takes them, one reason a group of nodes.
    pub reasons: Vec<String>,
}

/// How an instance is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// Which instance.
    pub id: InstanceId,
    /// Of which release.
    pub release: u64,
    /// Where it runs.
    pub node: String,
    /// What it is doing.
    pub state: InstanceState,
    /// It may get traffic.
    pub ready: bool,
    /// Where its ports are reached, by the port's name.
    pub endpoints: BTreeMap<Name, Endpoint>,
    /// The port used instead of an undeclared default one, because it was the only one listened on.
    pub found_port: Option<u16>,
    /// How often its process was started again.
    pub restarts: u32,
    /// When it was placed.
    pub created: Timestamp,
    /// Why it is not ready, in a sentence.
    pub reason: Option<String>,
    /// How its process ended last.
    pub exit: Option<Exit>,
    /// What it uses.
    pub usage: Option<Usage>,
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Its image is fetched, its sandbox is made.
    Starting,
    /// Its process runs.
    Running,
    /// Its process was told to stop.
    Stopping,
    /// Its process ended and is not started again.
    Exited,
    /// Its process keeps ending; the next start waits.
    CrashLoop,
}

/// How a process ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit code, if it exited.
    pub code: Option<i32>,
    /// The signal, if one killed it.
    pub signal: Option<i32>,
    /// It was killed because it exceeded its memory limit.
    pub out_of_memory: bool,
    /// When.
    pub at: Timestamp,
}

impl Exit {
    /// Says whether it exited with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.out_of_memory, self.code, self.signal) {
            (true, ..) => f.write_str("exceeded its memory limit"),
            (_, Some(code), _) => write!(f, "exited with code {code}"),
            (_, _, Some(signal)) => write!(f, "was killed by signal {signal}"),
            (_, None, None) => f.write_str("ended"),
        }
    }
}

/// Where a port of an instance is reached.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Endpoint {
    /// At an address.
    Address(SocketAddr),
    /// Through a unix socket that hands over connections: write the port (u16, big-endian), receive a status byte (0: here it is)
    /// and the connected socket as `SCM_RIGHTS`.
    Dial {
        /// The unix socket.
        socket: PathBuf,
        /// The port inside.
        port: u16,
    },
    /// Behind a service of the cluster, which balances by itself.
    Service {
        /// The service's DNS name.
        host: String,
        /// The service's port.
        port: u16,
    },
}

/// What an instance uses.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// CPU time since its start.
    pub cpu: Duration,
    /// Memory in bytes, caches that can be dropped not counted.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// A machine that instances can run on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it offers to placement.
    pub offer: crate::placement::Offer,
    /// Instances can start there now.
    pub ready: bool,
    /// What is worth knowing, such as limits that do not hold.
    pub notes: Vec<String>,
}
