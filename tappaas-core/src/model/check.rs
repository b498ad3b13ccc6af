//! What types cannot say of applications and environments, however they came here: from a manifest, through the library, or as an object.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Component, Path},
};

use super::{
    ApplicationContent, ApplicationSpec, Autoscale, DomainPoolSpec, EnvironmentSpec, Host, Limits,
    Port, Probe, ProbeCheck, Process, ProjectSpec, Protocol, RestartPolicy, Rollout, RouteSpec,
    Stop, TenantSpec,
};
use crate::{Error, Name, Result, controller::application::RELEASE_PROCESS};

/// The signals that a process can be asked to stop with.
pub(crate) const SIGNALS: &[&str] = &[
    "SIGABRT", "SIGALRM", "SIGCONT", "SIGHUP", "SIGINT", "SIGKILL", "SIGPIPE", "SIGQUIT",
    "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGWINCH",
];
/// Where the sandbox keeps its own file systems.
const RESERVED_PATHS: &[&str] = &["/dev", "/proc", "/sys"];
/// The most instances of a process.
pub(crate) const INSTANCES_MAX: u32 = 1000;
/// The most characters of a variable's name.
const VARIABLE_MAX: usize = 256;
/// The most ports of a process, and hosts of a route.
const EACH_MAX: usize = 50;
/// The most of each thing that an application has by name.
const PARTS_MAX: usize = 500;
/// The most that a limit of an environment can be: what no backend counts beyond.
const LIMIT_MAX: u64 = 1 << 53;
/// The most characters of a domain that hosts are given out under, so that the names before it have room.
pub(crate) const BASE_MAX: usize = 80;
pub(crate) const BASE_WRONG: &str = "a base domain is a plain host of at most 80 characters";

impl ApplicationSpec {
    /// Refuses an application whose parts do not fit together.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        self.content.check()?;
        for (process, count) in &self.scale {
            if *count > INSTANCES_MAX {
                let message = format!("a process has at most {INSTANCES_MAX} instances");
                return wrong(format!("scale.{process}"), message);
            }
        }
        self.content.check_autoscale(&self.autoscale)
    }

    /// Forgets what is said of the number of instances and does not fit to the content, as of an older release.
    pub(crate) fn forget_misfits(&mut self) {
        let content = &self.content;
        self.autoscale
            .retain(|name, it| content.check_autoscaled(name, it).is_ok());
    }
}

impl EnvironmentSpec {
    /// Refuses an environment whose limits nobody could keep.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        self.limits.check()
    }
}

impl TenantSpec {
    /// As [`EnvironmentSpec::check`].
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        self.limits.check()
    }
}

impl ProjectSpec {
    /// As [`EnvironmentSpec::check`].
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        self.limits.check()
    }
}

impl DomainPoolSpec {
    /// Refuses a pool that no hosts can be given out from.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        if self.bases.is_empty() || self.bases.len() > EACH_MAX {
            return wrong("bases", format!("a pool has 1 to {EACH_MAX} domains"));
        }
        if self.tenants.len() > PARTS_MAX {
            let message = format!("a pool is for all tenants, or at most {PARTS_MAX}");
            return wrong("tenants", message);
        }
        let long = |base: &&Host| base.wildcard() || base.as_str().len() > BASE_MAX;
        match self.bases.iter().find(long) {
            None => Ok(()),
            Some(base) => wrong("bases", format!("{base}: {BASE_WRONG}")),
        }
    }
}

impl Limits {
    /// Refuses limits that nobody could keep.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        for (field, limit) in self.fields() {
            let field = format!("limits.{field}");
            match limit {
                Some(0) => return wrong(field, "a limit is at least 1; without one leave it out"),
                Some(limit) if limit > LIMIT_MAX => {
                    return wrong(field, format!("a limit is at most {LIMIT_MAX}"));
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

impl ApplicationContent {
    /// As [`ApplicationSpec::check`].
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        self.check_sizes()?;
        for variables in [&self.environment, &self.overrides, &self.config] {
            for (name, value) in variables {
                told("environment", variable(name))?;
                let reference = value.reference().map(drop);
                let refused = reference.map_err(|error| error.message().to_owned());
                told(&format!("environment.{name}"), refused)?;
            }
        }
        for (name, process) in &self.processes {
            let field = format!("processes.{name}");
            if *name == *RELEASE_PROCESS {
                return wrong(field, RELEASE_TAKEN);
            }
            told(&field, check_process(name, process))?;
        }
        self.check_volumes()?;
        for (index, route) in self.routes.iter().enumerate() {
            told(&format!("routes[{index}]"), self.check_route(route))?;
        }
        self.check_overlaps()?;
        told("rollout", rollout(&self.rollout))
    }

    /// Refuses to autoscale what cannot be.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check_autoscale(&self, autoscale: &BTreeMap<Name, Autoscale>) -> Result<()> {
        for (name, it) in autoscale {
            told(
                &format!("autoscale.{name}"),
                self.check_autoscaled(name, it),
            )?;
        }
        Ok(())
    }

    fn check_autoscaled(&self, name: &Name, it: &Autoscale) -> Result<(), String> {
        autoscale(it)?;
        let process = self.processes.get(name);
        let process = process.ok_or_else(|| {
            format!("there is no process `{name}`: what is autoscaled is declared in `processes`")
        })?;
        let mut volumes = self.volumes.iter();
        if let Some((volume, _)) = volumes.find(|(_, volume)| volume.process == *name) {
            return Err(autoscaled_volume(name, volume));
        }
        autoscaled(
            name,
            process.restart,
            process.resources.cpu_millis.is_some(),
        )
    }

    fn check_overlaps(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for (index, route) in self.routes.iter().enumerate() {
            let hosts = route.hosts.iter().map(Host::as_str);
            let default = route.hosts.is_empty().then_some("");
            for host in hosts.chain(default) {
                if !seen.insert((host, route.path.as_str())) {
                    return wrong(format!("routes[{index}]"), OVERLAP);
                }
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<()> {
        for (field, size) in [
            ("processes", self.processes.len()),
            ("environment", self.environment.len()),
            ("overrides", self.overrides.len()),
            ("config", self.config.len()),
            ("volumes", self.volumes.len()),
            ("bindings", self.bindings.len()),
            ("routes", self.routes.len()),
        ] {
            if size > PARTS_MAX {
                let message = format!("there are {size}, and at most {PARTS_MAX} are allowed");
                return wrong(field, message);
            }
        }
        Ok(())
    }

    fn check_volumes(&self) -> Result<()> {
        let mut paths = BTreeSet::new();
        for (name, volume) in &self.volumes {
            let field = format!("volumes.{name}");
            told(&format!("{field}.path"), mount(&volume.path))?;
            told(&format!("{field}.process"), self.find(&volume.process)).map(drop)?;
            if !paths.insert((&volume.process, &volume.path)) {
                return wrong(format!("{field}.path"), SAME_PATH);
            }
        }
        Ok(())
    }

    fn check_route(&self, it: &RouteSpec) -> Result<(), String> {
        route_path(&it.path)?;
        if it.hosts.len() > EACH_MAX {
            return Err(format!("a route has at most {EACH_MAX} hosts"));
        }
        if let Some(target) = &it.redirect {
            redirect(target)?;
            return match it.process.is_some() || it.port.is_some() || it.strip {
                true => Err(REDIRECT_ALONE.to_owned()),
                false => Ok(()),
            };
        }
        let name = it.process.as_ref();
        let name = name.ok_or("a route leads to a `process`, or is a `redirect`")?;
        let Some(process) = self.find(name)? else {
            return Ok(());
        };
        match port(name, &process.ports, it.port.as_ref())? {
            Protocol::Tcp => Err(not_routed(name)),
            Protocol::H2c | Protocol::Http => Ok(()),
        }
    }

    /// The process of a name; `None` if none is declared at all, and the build finds them.
    fn find(&self, name: &Name) -> Result<Option<&Process>, String> {
        let found = self.processes.get(name);
        match found.is_none() && !self.processes.is_empty() {
            true => Err(format!("there is no process `{name}`")),
            false => Ok(found),
        }
    }
}

pub(crate) const RELEASE_TAKEN: &str = "`release` is the platform's own process: what runs once before a release is the `release_command`";
pub(crate) const OVERLAP: &str = "an earlier route has the same host and path";
pub(crate) const SAME_PATH: &str = "another volume of the same process has this path";
pub(crate) const REDIRECT_ALONE: &str =
    "a route leads to a process or is a redirect: `process`, `port` and `strip` make no sense here";

/// Whether bounds of autoscaling have a meaning.
pub(crate) fn autoscale(it: &Autoscale) -> Result<(), String> {
    match it {
        Autoscale { min: 0, .. } => Err("an autoscaled process has at least 1 instance".to_owned()),
        Autoscale { max, .. } if *max > INSTANCES_MAX => {
            Err(format!("a process has at most {INSTANCES_MAX} instances"))
        }
        Autoscale { min, max, .. } if min > max => {
            Err(format!("`min` is {min}, which is more than `max`, {max}"))
        }
        Autoscale { cpu_percent, .. } if !(1..=100).contains(cpu_percent) => {
            Err("the CPU that an instance uses is 1 to 100 percent of its limit".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether a process can be autoscaled.
pub(crate) fn autoscaled(name: &Name, restart: RestartPolicy, cpu: bool) -> Result<(), String> {
    if restart != RestartPolicy::Always {
        return Err(format!(
            "process `{name}` need not run on, so there is nothing to autoscale: `restart` is not `always`"
        ));
    }
    match cpu {
        true => Ok(()),
        false => Err(format!(
            "process `{name}` has no limit of CPU that its use could be a part of: give it `resources` with CPU"
        )),
    }
}

pub(crate) fn autoscaled_volume(name: &Name, volume: &Name) -> String {
    format!(
        "process `{name}` has the volume `{volume}`, which one instance alone may write: it cannot be autoscaled"
    )
}

pub(crate) fn not_routed(process: &Name) -> String {
    format!("this port of process `{process}` speaks plain `tcp`, which is not routed from outside")
}

fn check_process(name: &Name, process: &Process) -> Result<(), String> {
    let mut numbers = BTreeMap::new();
    let mut names = BTreeSet::new();
    if process.ports.len() > EACH_MAX {
        return Err(format!("a process has at most {EACH_MAX} ports"));
    }
    for port in &process.ports {
        if port.number == 0 {
            return Err("a port's number is 1 to 65535".to_owned());
        }
        if let Some(other) = numbers.insert(port.number, &port.name) {
            return Err(format!("port {} is called `{other}` already", port.number));
        }
        if !names.insert(&port.name) {
            return Err(format!("two ports are called `{}`", port.name));
        }
    }
    signal(&process.stop.signal)?;
    grace(process.stop.grace_seconds)?;
    let probes = &process.probes;
    for probe in [&probes.startup, &probes.readiness, &probes.liveness] {
        probe
            .iter()
            .try_for_each(|it| check_probe(name, process, it))?;
    }
    Ok(())
}

fn check_probe(name: &Name, process: &Process, probe: &Probe) -> Result<(), String> {
    if probe.period_seconds == 0 || probe.timeout_seconds == 0 || probe.failures == 0 {
        return Err("a probe's period, timeout and failures are at least 1".to_owned());
    }
    match &probe.check {
        ProbeCheck::Http { path, .. } if !path.starts_with('/') => {
            Err("the path of a probe starts with `/`".to_owned())
        }
        ProbeCheck::Http { port: wanted, .. } | ProbeCheck::Tcp { port: wanted } => {
            port(name, &process.ports, wanted.as_ref()).map(drop)
        }
        ProbeCheck::Exec { .. } => Ok(()),
    }
}

/// The protocol of a process's port, by its name or its first one.
pub(crate) fn port(name: &Name, ports: &[Port], wanted: Option<&Name>) -> Result<Protocol, String> {
    let undeclared = (ports.is_empty() && name.as_str() == "web").then(Port::undeclared);
    let mut all = ports.iter().chain(&undeclared);
    let found = match wanted {
        Some(wanted) => all.find(|port| port.name == *wanted),
        None => all.next(),
    };
    found.map(|port| port.protocol).ok_or_else(|| match wanted {
        Some(wanted) => format!("process `{name}` has no port `{wanted}`"),
        None => format!("process `{name}` has no port: give it a `port`"),
    })
}

pub(crate) fn variable(name: &str) -> Result<(), String> {
    let good = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let begins = |c: &u8| !c.is_ascii_digit();
    if name.len() > VARIABLE_MAX
        || !name.bytes().all(good)
        || !name.as_bytes().first().is_some_and(begins)
    {
        return Err(format!(
            "`{}` cannot name an environment variable: only letters, digits and `_` are allowed, and no digit first",
            name.escape_default()
        ));
    }
    match name {
        "PORT" => {
            Err("`PORT` is set by the platform: give the process a `port` instead".to_owned())
        }
        _ => Ok(()),
    }
}

fn signal(signal: &str) -> Result<(), String> {
    match SIGNALS.contains(&signal) {
        true => Ok(()),
        false => Err(format!(
            "`{}` is not a signal to stop with",
            signal.escape_default()
        )),
    }
}

pub(crate) fn grace(seconds: u32) -> Result<(), String> {
    let most = Stop::GRACE_SECONDS_MAX;
    match seconds > most {
        true => Err(format!("a process has at most {most} s to stop")),
        false => Ok(()),
    }
}

pub(crate) fn mount(path: &Path) -> Result<(), String> {
    let normal =
        |component: Component<'_>| matches!(component, Component::RootDir | Component::Normal(_));
    // `components` passes over `.` inside and `//`, which the text must not have either.
    let text = path.to_string_lossy();
    let plain = !text.contains("//") && !text.contains("/./") && !text.ends_with("/.");
    if !path.is_absolute() || !path.components().all(normal) || !plain {
        return Err("the path of a volume is absolute, without `.`, `..` and `//`".to_owned());
    }
    if path.parent().is_none() {
        return Err(
            "a volume cannot hide the whole image: give it a folder such as `/data`".to_owned(),
        );
    }
    let mut reserved = RESERVED_PATHS.iter();
    match reserved.find(|reserved| path.starts_with(reserved)) {
        Some(reserved) => Err(format!("`{reserved}` belongs to the sandbox")),
        None => Ok(()),
    }
}

pub(crate) fn route_path(path: &str) -> Result<(), String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '%' | '\\');
    let dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
    match !path.starts_with('/') || path.contains(odd) || path.contains("//") || dots {
        true => Err("the path of a route starts with `/`, and is a plain prefix without query, `%`, `..` and `//`".to_owned()),
        false => Ok(()),
    }
}

pub(crate) fn redirect(target: &str) -> Result<(), String> {
    let elsewhere = ["/", "http://", "https://"]
        .iter()
        .any(|start| target.starts_with(start));
    match !elsewhere || target.contains(|c: char| c.is_whitespace() || c.is_control()) {
        true => Err("a redirect goes to a path or to an `http://` or `https://` URL".to_owned()),
        false => Ok(()),
    }
}

/// The rest has a meaning whatever it is: a rollout that may neither add nor miss an instance adds one.
fn rollout(rollout: &Rollout) -> Result<(), String> {
    match rollout.deadline_seconds {
        0 => Err("the deadline is at least 1 s".to_owned()),
        _ => Ok(()),
    }
}

fn told<T>(field: &str, result: Result<T, String>) -> Result<T> {
    result.or_else(|message| wrong(field, message))
}

fn wrong<T>(field: impl fmt::Display, message: impl fmt::Display) -> Result<T> {
    Err(Error::invalid(format!("{field}: {message}")))
}
