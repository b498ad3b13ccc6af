use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Runtime, SecretReference};
use crate::{Name, Result};

/// A named kind of running thing in an application.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// What to run; `None`: what the build found for a process of this name.
    pub command: Option<Command>,
    /// The ports inside. A process named `web` without any has an undeclared port 8080 named `http`.
    pub ports: Vec<Port>,
    /// Limits.
    pub resources: Resources,
    /// On what kind of machine it runs.
    #[serde(skip_serializing_if = "Runtime::is_standard")]
    pub runtime: Runtime,
    /// How health is told.
    pub probes: Probes,
    /// How to stop.
    pub stop: Stop,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Who it runs as.
    pub user: User,
}

/// What to run.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Command {
    /// A line for `/bin/sh -c` inside the sandbox.
    Shell(String),
    /// A program and its arguments, executed directly.
    Exec(Vec<String>),
}

impl Command {
    /// The program and its arguments as they are executed inside the sandbox.
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            Self::Exec(argv) => argv.clone(),
        }
    }
}

/// The value of an environment variable. May be secret: never shown by `Debug`.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EnvValue(String);

impl EnvValue {
    /// Takes a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Shows the value to whoever must pass it on.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Where the value is kept, if it is not this.
    ///
    /// # Errors
    /// `Invalid` if it says so and cannot be read.
    pub fn reference(&self) -> Result<Option<SecretReference>> {
        SecretReference::meant(&self.0)
    }
}

impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl JsonSchema for EnvValue {
    fn schema_name() -> Cow<'static, str> {
        "EnvValue".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

/// A port inside an instance, the same for all replicas.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its name.
    pub name: Name,
    /// Its number.
    pub number: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The manifest names it. If not, and the process listens on exactly one other port, that one is used.
    pub declared: bool,
}

impl Port {
    /// The number of a port that nobody declared.
    pub const DEFAULT: u16 = 8080;

    /// The port of a `web` process that declares none.
    pub fn undeclared() -> Self {
        Self {
            name: Name::new("http").expect("`http` is a name"),
            number: Self::DEFAULT,
            protocol: Protocol::Http,
            declared: false,
        }
    }
}

/// What is spoken at a port.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 without TLS, by prior knowledge (gRPC).
    H2c,
    /// Any bytes over TCP; not routed from outside.
    Tcp,
}

/// Limits of one instance. What is not given is the backend's default.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// CPU in thousandths of a core.
    pub cpu_millis: Option<u32>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// How the health of an instance is told.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Probes {
    /// Until it succeeds the others wait; when it fails for good the process is restarted.
    pub startup: Option<Probe>,
    /// While it fails the instance gets no traffic. Without one: a connection to the first port.
    pub readiness: Option<Probe>,
    /// When it fails for good the process is restarted.
    pub liveness: Option<Probe>,
}

/// A repeated check.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// What is checked.
    pub check: ProbeCheck,
    /// Seconds before the first check.
    pub delay_seconds: u32,
    /// Seconds between checks, at least 1.
    pub period_seconds: u32,
    /// Seconds that a check may take, at least 1.
    pub timeout_seconds: u32,
    /// So many failures in a row fail the probe for good, at least 1.
    pub failures: u32,
}

impl Probe {
    /// A check with the field's usual timing: every 10 s (readiness of a new instance is checked faster), 1 s each, 3 failures.
    pub fn new(check: ProbeCheck) -> Self {
        Self {
            check,
            delay_seconds: 0,
            period_seconds: 10,
            timeout_seconds: 1,
            failures: 3,
        }
    }
}

/// What a probe checks.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeCheck {
    /// A GET answers 200 to 399.
    Http {
        /// The path, starting with `/`.
        path: String,
        /// The port's name; `None`: the first.
        port: Option<Name>,
    },
    /// A connection succeeds.
    Tcp {
        /// The port's name; `None`: the first.
        port: Option<Name>,
    },
    /// A command inside the instance exits with 0.
    Exec {
        /// The command.
        command: Command,
    },
}

/// How a process is stopped.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stop {
    /// The signal's name, such as `SIGTERM`.
    pub signal: String,
    /// Seconds until it is killed.
    pub grace_seconds: u32,
}

impl Stop {
    /// The most that [`Stop::grace_seconds`] can be in a manifest.
    pub const GRACE_SECONDS_MAX: u32 = 3600;
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            signal: "SIGTERM".to_owned(),
            grace_seconds: 30,
        }
    }
}

/// What happens when a process ends.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// It is started again, whatever its exit code.
    #[default]
    Always,
    /// It is started again unless it exited with code 0.
    OnFailure,
    /// It stays ended.
    Never,
}

/// Who a process runs as.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum User {
    /// A user of the application's own, without any privilege.
    #[default]
    Unprivileged,
    /// Root of a user namespace: root inside, nobody outside. For images that need it.
    Root,
}

/// Environment variables by name.
pub(crate) type Variables = BTreeMap<String, EnvValue>;
