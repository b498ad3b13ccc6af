use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tappaas_core::{
    Error, Result,
    model::{EnvValue, RestartPolicy},
};

use crate::network::Attachment;

/// Everything that one instance is started with.
///
/// It travels to the instance's shim over a socket and never touches a disk, for the environment may hold secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Unique among the instances of this machine: 1 to 63 characters of `[a-z0-9-]`.
    pub id: String,
    /// How strongly the process is confined.
    pub isolation: Isolation,
    /// Who the process runs as.
    pub user: User,
    /// The program and its arguments; a program without a slash is looked up in the `PATH` of `environment`.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, EnvValue>,
    /// The absolute folder to start in.
    pub workdir: PathBuf,
    /// The host name seen inside.
    pub hostname: String,
    /// The file system seen inside.
    pub root: Root,
    /// Folders and files of the machine seen inside.
    pub binds: Vec<Bind>,
    /// Size of `/tmp`, in bytes. It counts as memory of the instance.
    pub tmp_bytes: u64,
    /// Upper bounds on what it uses.
    pub limits: Limits,
    /// What it can reach and who can reach it.
    pub network: Network,
    /// What happens when the process ends.
    pub restart: Restart,
    /// How it is stopped.
    pub stop: Stop,
    /// Bounds of its log.
    pub log: LogLimits,
    /// Wall-clock time after which it is killed.
    pub deadline: Option<Duration>,
}

/// How strongly a process is confined.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// A sandbox set up by root.
    Privileged,
    /// A sandbox inside a user namespace, set up by a plain user. The process has that user's rights outside, whatever id it sees.
    Rootless,
    /// No sandbox: a plain process in its own session. Only by explicit choice.
    None,
}

/// Who a process runs as.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    /// This user and group id, never 0, without any capability. Rootless it is the id seen inside.
    Id(u32),
    /// Root of a user namespace. Under [`Isolation::Privileged`] the 65,536 ids inside are the machine's ids from `host` on.
    Root {
        /// The machine's id that root inside is.
        host: u32,
    },
}

impl User {
    /// How many ids [`User::Root`] takes on the machine.
    pub const RANGE: u32 = 65_536;

    /// The id seen inside.
    pub fn inside(self) -> u32 {
        match self {
            Self::Id(id) => id,
            Self::Root { .. } => 0,
        }
    }
}

/// The file system seen inside.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Root {
    /// Folders laid over each other, the uppermost first. At most [`Root::LAYERS_MAX`].
    pub layers: Vec<PathBuf>,
    /// Small files laid over the layers, such as `/etc/hosts`. At most [`Root::FILES_BYTES_MAX`] together.
    pub files: BTreeMap<PathBuf, String>,
    /// Writes go to this folder, which keeps them (as an overlay's upper layer, in `upper`); without it every write is refused.
    pub writable: Option<PathBuf>,
}

impl Root {
    /// The most layers of a root.
    pub const LAYERS_MAX: usize = 128;
    /// The most bytes of all [`Root::files`] together.
    pub const FILES_BYTES_MAX: usize = 1 << 20;
}

/// A folder or file of the machine seen inside.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bind {
    /// The absolute path on the machine.
    pub source: PathBuf,
    /// The absolute path inside.
    pub target: PathBuf,
    /// Writes are refused.
    pub read_only: bool,
}

/// Upper bounds on what an instance uses; `None` is unbounded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Bytes of memory, without swap.
    pub memory: Option<u64>,
    /// CPU in thousandths of a core.
    pub cpu_millis: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// It has the CPU only while nothing else on the machine wants it, as far as the kernel can do that (Linux 5.15), and a small
    /// share where the others would never let go of it.
    #[serde(default)]
    pub yields: bool,
}

/// What an instance can reach and who can reach it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A network namespace attached to the application's bridge, with an address of its own. Needs root.
    Bridge(Attachment),
    /// A network namespace of its own without an address outside: reached by connections that the shim hands over.
    Private {
        /// Connects it to the outside with this `pasta` program; without it nothing outside is reached.
        pasta: Option<PathBuf>,
    },
    /// The machine's network, unconfined. Only by explicit choice.
    Host,
}

/// What happens when the process ends.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// Whether it is started again.
    pub policy: RestartPolicy,
    /// The delay before the first restart. It doubles with each further one.
    pub delay_min: Duration,
    /// The longest delay.
    pub delay_max: Duration,
    /// A run of this length is a healthy one: delays start anew.
    pub healthy_after: Duration,
    /// So many unhealthy runs in a row are a crash loop. Restarts go on, with the longest delay.
    pub crash_loop_after: u32,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Always,
            delay_min: Duration::from_millis(500),
            delay_max: Duration::from_secs(60),
            healthy_after: Duration::from_secs(60),
            crash_loop_after: 5,
        }
    }
}

/// How a process is stopped.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// The signal's number.
    pub signal: i32,
    /// How long it may take before everything inside is killed.
    pub grace: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            signal: libc::SIGTERM,
            grace: Duration::from_secs(30),
        }
    }
}

/// Bounds of an instance's log: at most `file_bytes` × (`files` + 1) on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLimits {
    /// A log file of this size is put aside.
    pub file_bytes: u64,
    /// How many files put aside are kept.
    pub files: u32,
    /// A longer line is split.
    pub line_bytes: usize,
    /// What is written faster than this many bytes a second has to wait, and the process with it. Bursts of one second pass.
    pub bytes_per_second: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            file_bytes: 10 << 20,
            files: 4,
            line_bytes: 16 << 10,
            bytes_per_second: 8 << 20,
        }
    }
}

impl Spec {
    /// The largest encoded spec. The environment of a process is bounded by the kernel at 2 MiB anyway.
    pub(crate) const BYTES_MAX: usize = 8 << 20;

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// `Invalid`, naming the field and the value.
    pub fn validate(&self) -> Result<()> {
        let invalid = |why: String| Err(Error::invalid(format!("instance {}: {why}", self.id)));
        let id_letter =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.id.is_empty() || self.id.len() > 63 || !self.id.bytes().all(id_letter) {
            return invalid("the id is not 1 to 63 characters of [a-z0-9-]".to_owned());
        }
        if self.command.first().is_none_or(String::is_empty) {
            return invalid("there is no command to run".to_owned());
        }
        if self.command.iter().any(|argument| argument.contains('\0')) {
            return invalid("the command contains a NUL character".to_owned());
        }
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) || value.expose().contains('\0') {
                return invalid(format!(
                    "environment variable {name:?} cannot be passed to a process"
                ));
            }
        }
        if self.user == User::Id(0) {
            return invalid(
                "a process does not run as user 0; ask for user \"root\" instead".to_owned(),
            );
        }
        if matches!(self.user, User::Root { .. }) && self.isolation == Isolation::None {
            return invalid("without a sandbox a process does not run as root".to_owned());
        }
        if matches!(self.user, User::Root { host: 0 }) && self.isolation == Isolation::Privileged {
            return invalid("root inside cannot be root of the machine".to_owned());
        }
        if self.root.layers.len() > Root::LAYERS_MAX {
            return invalid(format!("more than {} layers", Root::LAYERS_MAX));
        }
        if self.root.files.values().map(String::len).sum::<usize>() > Root::FILES_BYTES_MAX {
            return invalid(format!(
                "generated files exceed {} bytes",
                Root::FILES_BYTES_MAX
            ));
        }
        if matches!(self.network, Network::Bridge(_)) && self.isolation != Isolation::Privileged {
            return invalid("a bridge needs root".to_owned());
        }
        if !(1..=31).contains(&self.stop.signal) {
            return invalid(format!("there is no signal {}", self.stop.signal));
        }
        self.validate_paths()
    }

    fn validate_paths(&self) -> Result<()> {
        let sources = self.binds.iter().map(|bind| &bind.source);
        let targets = self.binds.iter().map(|bind| &bind.target);
        let paths = sources
            .chain(targets)
            .chain(self.root.files.keys())
            .chain(&self.root.layers);
        for path in paths.chain(&self.root.writable).chain([&self.workdir]) {
            let dots = path
                .components()
                .any(|part| part == std::path::Component::ParentDir);
            if !path.is_absolute() || dots || path.to_str().is_none_or(|text| text.contains('\0')) {
                let path = path.display();
                return Err(Error::invalid(format!(
                    "instance {}: {path} is not a plain absolute path",
                    self.id
                )));
            }
        }
        Ok(())
    }

    /// The address that the instance is reached at, if it has one.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        match &self.network {
            Network::Bridge(attachment) => Some(attachment.address),
            Network::Private { .. } => None,
            Network::Host => Some(Ipv4Addr::LOCALHOST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            id: "web-1".to_owned(),
            isolation: Isolation::Rootless,
            user: User::Id(20_000),
            command: vec!["true".to_owned()],
            environment: BTreeMap::from([("TOKEN".to_owned(), EnvValue::new("s3cret"))]),
            workdir: "/".into(),
            hostname: "web".to_owned(),
            root: Root::default(),
            binds: Vec::new(),
            tmp_bytes: 1 << 20,
            limits: Limits::default(),
            network: Network::Private { pasta: None },
            restart: Restart::default(),
            stop: Stop::default(),
            log: LogLimits::default(),
            deadline: None,
        }
    }

    fn refused(reason: &str, damage: impl FnOnce(&mut Spec)) {
        let mut spec = spec();
        damage(&mut spec);
        let message = spec.validate().unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        assert!(spec().validate().is_ok());
        refused("id", |spec| spec.id = "Web".to_owned());
        refused("command", |spec| spec.command = vec![String::new()]);
        refused("environment", |spec| {
            spec.environment.insert("A=B".to_owned(), EnvValue::new(""));
        });
        refused("user 0", |spec| spec.user = User::Id(0));
        refused("as root", |spec| {
            (spec.user, spec.isolation) = (User::Root { host: 300_000 }, Isolation::None);
        });
        refused("absolute", |spec| spec.workdir = "srv".into());
        refused("absolute", |spec| {
            spec.root.files = [("/etc/../x".into(), String::new())].into();
        });
        refused("signal", |spec| spec.stop.signal = 0);
    }

    #[test]
    fn values_of_the_environment_are_not_in_debug_output() {
        let shown = format!("{:?}", spec());
        assert!(
            shown.contains("TOKEN") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
}
