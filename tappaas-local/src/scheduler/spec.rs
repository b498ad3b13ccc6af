use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use tappaas_core::{
    Error, Result,
    backend::{InstanceId, Template},
    model::{self, EnvValue},
};

use super::{config::DefaultLimits, slots::Slot};
use crate::{
    image::{ImageConfig, Unpacked},
    network::nameservers,
    sandbox::{
        Account, Bind, HostStack, Isolation, Limits, LogLimits, Network, Restart, Root, Spec, Stop,
        User,
    },
};

/// What an instance's sandbox is specified from.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) id: &'a InstanceId,
    pub(super) template: &'a Template,
    pub(super) image: Unpacked,
    /// The stack, if the image is to be laid over it.
    pub(super) userland: Option<&'a HostStack>,
    pub(super) isolation: Isolation,
    pub(super) network: Network,
    pub(super) slot: Slot,
    /// The folders of its volumes.
    pub(super) volumes: Vec<Bind>,
    pub(super) limits: DefaultLimits,
    pub(super) log: LogLimits,
    /// Overrides `PORT`, where it cannot be the same for all replicas.
    pub(super) port: Option<u16>,
}

/// What a path is looked up in by a program that runs without a stack.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The only place that every process may write to.
const HOME: &str = "/tmp";
/// The user id that a plain user's processes see as their own.
const ROOTLESS: u32 = 1000;
/// Memory that files in `/tmp` may take of an instance's limit: a quarter.
const TMP_SHARE: u64 = 4;
/// Ends in a row that are a crash loop.
const CRASH_LOOP: u32 = 3;

impl Parts<'_> {
    /// Returns the specification.
    ///
    /// # Errors
    /// `Invalid` if template and image together give nothing that can run.
    pub(super) fn spec(self) -> Result<Spec> {
        let (template, isolation) = (self.template, self.isolation);
        let user = user(isolation, template.user, self.slot);
        let limits = limits(&template.resources, &self.limits);
        let tmp_bytes = self
            .limits
            .tmp
            .0
            .min(limits.memory.unwrap_or(u64::MAX) / TMP_SHARE);
        let files = match isolation {
            Isolation::None => BTreeMap::new(),
            Isolation::Privileged | Isolation::Rootless => files(&self, user.inside()),
        };
        let mut layers: Vec<_> = self.image.layers.iter().rev().cloned().collect();
        layers.extend(self.userland.map(|userland| userland.layer.clone()));
        let mut binds = self
            .userland
            .map(|userland| userland.binds.clone())
            .unwrap_or_default();
        binds.extend(self.volumes);
        Ok(Spec {
            id: self.id.0.clone(),
            isolation,
            user,
            command: command(template, &self.image.config)?,
            environment: environment(template, &self.image.config, self.userland, self.port),
            workdir: workdir(isolation, &self.image),
            hostname: self.id.0.clone(),
            root: Root {
                layers,
                files,
                writable: None,
            },
            binds,
            tmp_bytes,
            limits,
            network: self.network,
            restart: Restart {
                policy: template.restart,
                crash_loop_after: CRASH_LOOP,
                ..Restart::default()
            },
            stop: Stop {
                signal: signal(&template.stop.signal)?,
                grace: Duration::from_secs(template.stop.grace_seconds.into()),
            },
            log: self.log,
            deadline: None,
        })
    }
}

/// The user of the machine that files of an instance belong to; `None`: this process's own.
pub(super) fn owner(isolation: Isolation, user: model::User, slot: Slot) -> Option<u32> {
    match (isolation, user) {
        (Isolation::Rootless, _) => None,
        (Isolation::None, _) if !rustix::process::geteuid().is_root() => None,
        (Isolation::Privileged, model::User::Root) => Some(slot.root()),
        (Isolation::Privileged | Isolation::None, _) => Some(slot.user()),
    }
}

fn user(isolation: Isolation, user: model::User, slot: Slot) -> User {
    match (isolation, user) {
        (Isolation::Privileged | Isolation::Rootless, model::User::Root) => {
            User::Root { host: slot.root() }
        }
        (Isolation::Rootless, model::User::Unprivileged) => User::Id(ROOTLESS),
        (Isolation::Privileged, model::User::Unprivileged) | (Isolation::None, _) => {
            User::Id(slot.user())
        }
    }
}

fn limits(wanted: &model::Resources, usual: &DefaultLimits) -> Limits {
    Limits {
        memory: wanted.memory.or(Some(usual.memory.0)),
        cpu_millis: wanted.cpu_millis.or_else(|| Some(usual.cpu?.0)),
        pids: wanted.pids.or(Some(usual.pids)),
        yields: false,
    }
}

pub(super) fn command(template: &Template, image: &ImageConfig) -> Result<Vec<String>> {
    let command = match &template.command {
        Some(command) => command.argv(),
        None => [image.entrypoint.as_slice(), image.cmd.as_slice()].concat(),
    };
    match command.is_empty() {
        false => Ok(command),
        true => Err(Error::invalid(format!(
            "neither the process nor its image {} says what to run: give the process a command",
            template.image
        ))),
    }
}

fn environment(
    template: &Template,
    image: &ImageConfig,
    userland: Option<&HostStack>,
    port: Option<u16>,
) -> BTreeMap<String, EnvValue> {
    let path = userland.map_or(PATH, |userland| &userland.path);
    let mut environment = BTreeMap::new();
    environment.insert("PATH".to_owned(), EnvValue::new(path));
    environment.insert("HOME".to_owned(), EnvValue::new(HOME));
    for variable in &image.env {
        if let Some((name, value)) = variable.split_once('=') {
            environment.insert(name.to_owned(), EnvValue::new(value));
        }
    }
    environment.extend(template.environment.clone());
    if let Some(port) = port {
        environment.insert("PORT".to_owned(), EnvValue::new(port.to_string()));
    }
    environment
}

/// Without a sandbox there is no root to start from: the folder is the one in the uppermost layer that has it.
fn workdir(isolation: Isolation, image: &Unpacked) -> PathBuf {
    let inside = match image.config.working_dir.is_absolute() {
        true => image.config.working_dir.clone(),
        false => Path::new("/").join(&image.config.working_dir),
    };
    if isolation != Isolation::None {
        return inside;
    }
    let relative = inside.strip_prefix("/").unwrap_or(&inside);
    let folders = image.layers.iter().rev().map(|layer| layer.join(relative));
    folders
        .into_iter()
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| "/".into())
}

/// What no image can know. On the stack `host` also users, which other images bring themselves.
fn files(parts: &Parts<'_>, user: u32) -> BTreeMap<PathBuf, String> {
    let account = Account {
        id: user,
        home: HOME,
        hostname: &parts.id.0,
        address: match &parts.network {
            Network::Bridge(attachment) => Some(attachment.address),
            Network::Private { .. } | Network::Host => None,
        },
        nameservers: &nameservers(),
    };
    match parts.userland {
        Some(_) => account.files(),
        None => account.network_files(),
    }
}

/// The number of a signal that can ask a process to stop.
fn signal(name: &str) -> Result<i32> {
    let known = [
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("KILL", libc::SIGKILL),
        ("USR1", libc::SIGUSR1),
        ("USR2", libc::SIGUSR2),
        ("TERM", libc::SIGTERM),
        ("WINCH", libc::SIGWINCH),
        ("PWR", libc::SIGPWR),
    ];
    let wanted = name.strip_prefix("SIG").unwrap_or(name);
    let found = known.iter().find(|(name, _)| *name == wanted);
    found.map(|(_, number)| *number).ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|(name, _)| format!("SIG{name}")).collect();
        Error::invalid(format!(
            "`{}` is no signal to stop with; there are {}",
            name.escape_debug(),
            known.join(", ")
        ))
    })
}
