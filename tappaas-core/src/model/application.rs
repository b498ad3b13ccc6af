use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Autoscale, BuildSpec, Command, Condition, Host, Process, Source, Spec, Typed,
    process::Variables,
};
use crate::{Digest, Error, Key, Kind, Name, Result, Scope, Timestamp, backend::Image};

/// One deployable thing in one environment.
pub type Application = Typed<ApplicationSpec>;

/// The identity of an application, written `tenant/project/environment/name`.
#[derive(
    Clone, Debug, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ApplicationKey {
    /// Who owns it.
    pub tenant: Name,
    /// In which project.
    pub project: Name,
    /// In which environment.
    pub environment: Name,
    /// Its name there.
    pub name: Name,
}

impl ApplicationKey {
    /// The environment it lives in.
    pub fn scope(&self) -> Scope {
        Scope::environment(
            self.tenant.clone(),
            self.project.clone(),
            self.environment.clone(),
        )
    }

    /// The key of its object.
    pub fn object(&self) -> Key {
        Key::new(Kind::Application, self.scope(), self.name.as_str())
    }

    /// The application that an object in this environment, belonging to an application, names.
    ///
    /// # Errors
    /// `Internal` if the scope is not an environment or the name not a [`Name`].
    pub fn new(scope: &Scope, name: &str) -> Result<Self> {
        let [tenant, project, environment] = scope.names() else {
            return Err(Error::internal(format!(
                "scope `{scope}` is no environment"
            )));
        };
        Ok(Self {
            tenant: tenant.clone(),
            project: project.clone(),
            environment: environment.clone(),
            name: Name::new(name)?,
        })
    }

    /// A name for what a backend makes for this application: a readable prefix and a hash of the key, at most 40 characters of `[a-z0-9-]`.
    pub fn label(&self) -> String {
        let hash = Digest::of(self.to_string());
        let readable: String = self.name.as_str().chars().take(27).collect();
        format!("{}-{}", readable.trim_end_matches('-'), hash.short())
    }
}

impl fmt::Display for ApplicationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/{}",
            self.tenant, self.project, self.environment, self.name
        )
    }
}

impl FromStr for ApplicationKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = text.split('/').map(Name::new).collect::<Result<Vec<_>>>()?;
        let [tenant, project, environment, name] = <[Name; 4]>::try_from(names).map_err(|_| {
            Error::invalid(format!(
                "`{text}` is no application: expected tenant/project/environment/name"
            ))
        })?;
        Ok(Self {
            tenant,
            project,
            environment,
            name,
        })
    }
}

impl TryFrom<String> for ApplicationKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ApplicationKey> for String {
    fn from(key: ApplicationKey) -> Self {
        key.to_string()
    }
}

/// What a user wants of an application: the manifest resolved for its environment, and what was set since.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationSpec {
    /// What becomes a release.
    pub content: Content,
    /// How many instances of each process run. Belongs to the application, not to a release.
    #[serde(default)]
    pub scale: BTreeMap<Name, u32>,
    /// Processes whose instances are as many as their work takes, whatever their scale. Belongs to the application, too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub autoscale: BTreeMap<Name, Autoscale>,
    /// Raised to make a new release although the content did not change.
    #[serde(default)]
    pub attempt: u64,
    /// The content is that of this release, whose image is used without building.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<u64>,
}

impl Spec for ApplicationSpec {
    const KIND: Kind = Kind::Application;
    type Status = ApplicationStatus;
}

/// What a release is made of, but for the image.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// Where the code comes from.
    pub source: Source,
    /// How it is built.
    #[serde(default)]
    pub build: BuildSpec,
    /// What runs; empty: what the build found.
    #[serde(default)]
    pub processes: BTreeMap<Name, Process>,
    /// Environment variables of the manifest.
    #[serde(default)]
    pub environment: Variables,
    /// Environment variables of the manifest's `[environments.X]`, which win over those.
    #[serde(default)]
    pub overrides: Variables,
    /// Environment variables of `config set`, which win over all.
    #[serde(default)]
    pub config: Variables,
    /// Storage, by name.
    #[serde(default)]
    pub volumes: BTreeMap<Name, VolumeMount>,
    /// Other applications that this one uses, by the name it knows them by.
    #[serde(default)]
    pub bindings: BTreeMap<Name, Binding>,
    /// Where requests come in; empty: the default host, all paths, to process `web`.
    #[serde(default)]
    pub routes: Vec<RouteSpec>,
    /// How a new release replaces the old one.
    #[serde(default)]
    pub rollout: Rollout,
    /// Run once before a release rolls out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_command: Option<Command>,
}

/// Where the processes of an application see a volume.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// The absolute path inside.
    pub path: PathBuf,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Which process sees it. A volume has a single writer: this process runs one instance.
    pub process: Name,
}

/// A declared use of another application: injects its address, and is the only allowed network edge.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// The application, in the same environment.
    pub application: Name,
    /// Its process.
    pub process: Name,
    /// The name of its port; `None`: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Name>,
}

/// Hosts and paths that lead to a process, or elsewhere.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// The hosts; empty: the default host.
    pub hosts: Vec<Host>,
    /// The path prefix, starting with `/`.
    pub path: String,
    /// The process; `None` with a redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Name>,
    /// The name of the process's port; `None`: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Name>,
    /// The prefix is taken off before forwarding.
    #[serde(default)]
    pub strip: bool,
    /// Where requests are sent instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
}

/// How a new release replaces the old one.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// Instances above the scale while rolling. With `max_unavailable` 0 at least 1.
    pub max_surge: u32,
    /// Instances below the scale while rolling.
    pub max_unavailable: u32,
    /// Seconds that requests in flight get before their instance is stopped all the same.
    pub drain_seconds: u32,
    /// Seconds within which the release must be healthy.
    pub deadline_seconds: u32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            max_surge: 1,
            max_unavailable: 0,
            drain_seconds: 30,
            deadline_seconds: 300,
        }
    }
}

/// What controllers found about an application.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApplicationStatus {
    /// The generation that this status is about.
    pub generation: u64,
    /// The last release that became healthy: what restarts and reboots run.
    pub current: Option<u64>,
    /// The newest release, whatever became of it.
    pub latest: Option<u64>,
    /// What is being done.
    pub phase: Phase,
    /// The phase in a sentence, with the reason if something is wrong.
    pub message: String,
    /// What is known, for programs that wait for it.
    pub conditions: Vec<Condition>,
    /// Since when each instance that has to go gets no new requests, by instance.
    pub draining: BTreeMap<String, Timestamp>,
    /// Each process that runs or should.
    pub processes: BTreeMap<Name, ProcessStatus>,
    /// The names of the routes that are there or are about to be.
    pub routes: Vec<Name>,
    /// Where the application answers.
    pub hosts: Vec<Host>,
    /// The image that serves.
    pub image: Option<Image>,
}

/// What is being done about an application.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing yet.
    #[default]
    Pending,
    /// Its source is being built.
    Building,
    /// Its release command runs.
    Releasing,
    /// The instances of a release, or its routes, are being made.
    RollingOut,
    /// What is wanted runs.
    Running,
    /// What is wanted was refused; the last healthy release, if any, runs.
    Failed,
    /// It is being destroyed.
    Destroying,
}

/// How a process is.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProcessStatus {
    /// Instances wanted.
    pub wanted: u32,
    /// Instances ready.
    pub ready: u32,
    /// Restarts of all its instances.
    pub restarts: u32,
    /// Why instances are missing or not ready.
    pub reasons: Vec<String>,
}
