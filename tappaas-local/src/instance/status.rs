use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use tappaas_core::{Timestamp, backend::Exit};

use crate::sandbox::{Enforced, Isolation, Limits, Network, Spec};

/// How an instance is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// The process, as the machine sees it.
    pub pid: Option<i32>,
    /// When the process was started last.
    pub started: Option<Timestamp>,
    /// How often it was started again.
    pub restarts: u32,
    /// It keeps ending; see [`crate::Restart::crash_loop_after`].
    pub crash_loop: bool,
    /// When it is started again.
    pub next_start: Option<Timestamp>,
    /// How the process ended last.
    pub exit: Option<Exit>,
    /// It was killed because it ran longer than its deadline.
    pub expired: bool,
    /// How strongly it is confined.
    pub isolation: Isolation,
    /// Which limits hold.
    pub enforced: Enforced,
    /// The address it is reached at; without one it is reached by connections that its shim hands over.
    pub address: Option<Ipv4Addr>,
    /// What whoever looks should know: what was asked for and does not hold.
    pub notes: Vec<String>,
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its sandbox is made.
    Starting,
    /// Its process runs.
    Running,
    /// Its process has ended and is started again in a while.
    Waiting,
    /// Its process was told to stop.
    Stopping,
    /// It is over, and nothing of it is left but its folder.
    Ended,
    /// Its shim is dead; the process may still run. To be [reaped](crate::reap).
    Lost,
}

impl Status {
    pub(crate) fn starting(spec: &Spec, enforced: Enforced) -> Self {
        Self {
            phase: Phase::Starting,
            pid: None,
            started: None,
            restarts: 0,
            crash_loop: false,
            next_start: None,
            exit: None,
            expired: false,
            isolation: spec.isolation,
            enforced,
            address: spec.address(),
            notes: notes(spec, enforced),
        }
    }
}

fn notes(spec: &Spec, enforced: Enforced) -> Vec<String> {
    let mut notes = Vec::new();
    if spec.isolation == Isolation::None {
        notes.push("runs without a sandbox: it can do whatever its user can".to_owned());
    }
    if spec.network == Network::Host && spec.isolation != Isolation::None {
        notes.push(
            "shares the machine's network: it reaches every service of the machine".to_owned(),
        );
    }
    let Limits {
        memory,
        cpu_millis,
        pids,
        // It limits nothing while nobody else wants the CPU, and where it is not there nothing is broken.
        yields: _,
    } = spec.limits;
    let missing = [
        ("memory", memory.is_some() && !enforced.memory),
        ("CPU", cpu_millis.is_some() && !enforced.cpu),
        ("processes", pids.is_some() && !enforced.pids),
    ];
    let missing: Vec<_> = missing
        .into_iter()
        .filter_map(|(name, missing)| missing.then_some(name))
        .collect();
    if !missing.is_empty() {
        notes.push(format!(
            "its limits on {} do not hold here; `tappaas doctor` says why",
            missing.join(", ")
        ));
    }
    notes
}
