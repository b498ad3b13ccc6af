use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tappaas_core::{
    Name, Timestamp,
    backend::{self, Endpoint},
};
use utoipa::ToSchema;

/// One running copy of a process.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// Its process.
    #[schema(value_type = String)]
    pub process: Name,
    /// Its release.
    pub release: u64,
    /// Where it runs.
    pub node: String,
    /// What it is doing.
    pub state: InstanceState,
    /// It may get requests.
    pub ready: bool,
    /// Why it is not ready.
    pub reason: Option<String>,
    /// How often its process was started again.
    pub restarts: u32,
    /// When it was placed.
    pub created: Timestamp,
    /// How its process ended last.
    pub exit: Option<Exit>,
    /// What it uses.
    pub usage: Option<Usage>,
    /// Where its ports are reached, by name, for people.
    #[schema(value_type = BTreeMap<String, String>)]
    pub endpoints: BTreeMap<Name, String>,
}

super::mirror! {
    /// What an instance is doing.
    InstanceState of backend::InstanceState {
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
}

/// How a process ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit code, if it exited.
    pub code: Option<i32>,
    /// The signal, if one killed it.
    pub signal: Option<i32>,
    /// It exceeded its memory limit.
    pub out_of_memory: bool,
    /// When.
    pub at: Timestamp,
}

/// What an instance uses.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Seconds of CPU time since its start.
    pub cpu_seconds: f64,
    /// Bytes of memory, caches that can be dropped not counted.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

impl Instance {
    pub(crate) fn new(process: &Name, instance: &backend::InstanceStatus) -> Self {
        let endpoints = instance.endpoints.iter();
        Self {
            id: instance.id.to_string(),
            process: process.clone(),
            release: instance.release,
            node: instance.node.clone(),
            state: instance.state.into(),
            ready: instance.ready,
            reason: instance.reason.clone(),
            restarts: instance.restarts,
            created: instance.created,
            exit: instance.exit.as_ref().map(Into::into),
            usage: instance.usage.as_ref().map(Into::into),
            endpoints: endpoints
                .map(|(name, endpoint)| (name.clone(), shown(endpoint)))
                .collect(),
        }
    }
}

fn shown(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Address(address) => address.to_string(),
        Endpoint::Dial { port, .. } => format!("port {port} inside"),
        Endpoint::Service { host, port } => format!("{host}:{port}"),
    }
}

impl From<&backend::Exit> for Exit {
    fn from(exit: &backend::Exit) -> Self {
        Self {
            code: exit.code,
            signal: exit.signal,
            out_of_memory: exit.out_of_memory,
            at: exit.at,
        }
    }
}

impl From<&backend::Usage> for Usage {
    fn from(usage: &backend::Usage) -> Self {
        Self {
            cpu_seconds: usage.cpu.as_secs_f64(),
            memory: usage.memory,
            pids: usage.pids,
        }
    }
}
