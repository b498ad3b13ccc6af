use std::{collections::BTreeMap, fmt, path::PathBuf};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{Autoscale, Bytes, CommandLine, Error, Process, Resources, Seconds, Variable, check};
use crate::{
    Name,
    model::{self, Host, Strategy},
};

/// What a repository says about how it is built, run and reached: the content of `tappaas.toml`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// The application's name. Default: the name of the folder.
    pub name: Option<Name>,
    /// How the source becomes an image.
    pub build: Build,
    /// What runs, by name. Default: what the source declares (`Procfile`) or what is detected.
    pub processes: BTreeMap<Name, Process>,
    /// Environment variables. `PORT` is the platform's.
    pub env: BTreeMap<String, Variable>,
    /// What is different in single environments, by their names.
    pub environments: BTreeMap<Name, Changes>,
    /// Storage that outlives releases and the application itself, by name.
    pub volumes: BTreeMap<Name, Volume>,
    /// Other applications of the same environment that this one uses, by the name it knows them by.
    pub bindings: BTreeMap<Name, Binding>,
    /// Where requests come in. Default: the default host, all paths, to the process `web`.
    pub routes: Vec<Route>,
    /// How a new release replaces the old one.
    pub rollout: Rollout,
    /// Run once before a release rolls out, in its image; if it fails the release is refused.
    pub release_command: Option<CommandLine>,
}

impl Manifest {
    /// The file's usual name.
    pub const FILE: &str = "tappaas.toml";

    /// The most bytes a manifest may have.
    pub const SIZE_MAX: usize = 256 << 10;

    /// Reads a manifest. `file` is how errors call it.
    ///
    /// # Errors
    /// The first thing that is no TOML, unknown, or cannot be meant, with line and caret.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        if text.len() > Self::SIZE_MAX {
            let message = format!("a manifest has at most {} bytes", Self::SIZE_MAX);
            return Err(Error::new(file, text, None, message));
        }
        let manifest: Self =
            toml::from_str(text).map_err(|error| Error::from_toml(file, text, &error))?;
        check::check(&manifest).map_err(|problem| problem.locate(file, text))?;
        Ok(manifest)
    }
}

/// How the source becomes an image.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Build {
    /// By which strategy. Default: told from the source.
    pub strategy: Option<Strategy>,
    /// The stack to build and run on: its name, or an image. Default: the builder's first.
    pub stack: Option<String>,
    /// Run in the source instead of the detected build steps.
    pub command: Option<CommandLine>,
    /// What is not part of the source, as in a `.gitignore`; beside `.gitignore` and `.dockerignore`, which are honoured.
    pub ignore: Vec<String>,
}

/// What is different in one environment.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Changes {
    /// Environment variables, merged over those of the manifest.
    pub env: BTreeMap<String, Variable>,
    /// Changes of processes that the manifest declares.
    pub processes: BTreeMap<Name, ProcessChanges>,
    /// Replaces all routes of the manifest.
    pub routes: Option<Vec<Route>>,
    /// Replaces single values of the manifest's.
    pub rollout: Rollout,
}

/// What is different about a process in one environment.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ProcessChanges {
    /// How many instances run at first, instead of the manifest's `autoscale`.
    pub replicas: Option<u32>,
    /// Between which bounds as many instances run as their work takes, instead of the manifest's `replicas` or `autoscale`.
    pub autoscale: Option<Autoscale>,
    /// Replaces single limits of the manifest's.
    pub resources: Resources,
}

/// Storage that outlives releases and the application itself.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Where the process sees it: an absolute path.
    pub path: PathBuf,
    /// How much it may hold. Default: no limit of its own.
    #[serde(default)]
    pub size: Option<Bytes>,
    /// The process that sees it, which then runs one instance. Default: `web`.
    #[serde(default)]
    pub process: Option<Name>,
}

/// A declared use of another application. A string is the application's name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding(pub model::Binding);

/// Hosts and a path that lead to a process, or elsewhere.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Route {
    /// The hosts; a first label `*` stands for any label. Default: the application's default host.
    pub hosts: Vec<Host>,
    /// The path prefix. Default: `/`.
    pub path: Option<String>,
    /// The process. Default: `web`.
    pub process: Option<Name>,
    /// The name of the process's port. Default: its first.
    pub port: Option<Name>,
    /// The path prefix is taken off before a request is forwarded.
    pub strip: bool,
    /// Where requests are sent instead of to a process: a URL or a path.
    pub redirect: Option<String>,
}

/// How a new release replaces the old one.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Rollout {
    /// How many instances may run above the scale meanwhile. Default: 1.
    pub max_surge: Option<u32>,
    /// How many instances may be missing meanwhile. Default: 0.
    pub max_unavailable: Option<u32>,
    /// How long requests in flight may take before their instance is stopped all the same. Default: `30s`.
    pub drain_timeout: Option<Seconds>,
    /// Within what time the release must be healthy. Default: `5m`.
    pub deadline: Option<Seconds>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BindingSettings {
    /// The application, in the same environment.
    application: Name,
    /// Its process. Default: `web`.
    #[serde(default)]
    process: Option<Name>,
    /// The name of the process's port. Default: its first.
    #[serde(default)]
    port: Option<Name>,
}

struct BindingVisitor;

impl<'de> Visitor<'de> for BindingVisitor {
    type Value = Binding;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an application's name, or a table with `application`, `process` and `port`")
    }

    fn visit_str<E: de::Error>(self, application: &str) -> Result<Binding, E> {
        Ok(Binding(model::Binding {
            application: Name::new(application).map_err(E::custom)?,
            process: check::web(),
            port: None,
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Binding, A::Error> {
        let settings = BindingSettings::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Binding(model::Binding {
            application: settings.application,
            process: settings.process.unwrap_or_else(check::web),
            port: settings.port,
        }))
    }
}

impl<'de> Deserialize<'de> for Binding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BindingVisitor)
    }
}

impl JsonSchema for Binding {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Binding".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let (name, settings) = (
            generator.subschema_for::<Name>(),
            BindingSettings::json_schema(generator),
        );
        schemars::json_schema!({
            "description": "A declared use of another application. A string is the application's name.",
            "oneOf": [name, settings],
        })
    }
}
