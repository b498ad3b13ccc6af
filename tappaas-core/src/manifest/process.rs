use std::{borrow::Cow, fmt, num::NonZeroU32};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{Bytes, CommandLine, Cpu, Seconds};
use crate::{
    Name,
    model::{self, ProbeCheck, Protocol, RestartPolicy, Runtime, User},
};

/// A named kind of running thing in an application.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Process {
    /// What to run. Default: what the source declares or what is detected for this name, or what the image says.
    pub command: Option<CommandLine>,
    /// The number of its one port inside, named `http`, where it speaks HTTP. Default for the process `web`: 8080, told to it as `PORT`.
    pub port: Option<PortNumber>,
    /// Its ports, by name, instead of `port`. The first is told to it as `PORT`, and is meant wherever none is named.
    pub ports: Option<Ports>,
    /// How many instances run at first. `scale` changes it later. Default: 1.
    pub replicas: Option<u32>,
    /// Between which bounds as many instances run as their work takes, instead of `replicas`.
    pub autoscale: Option<Autoscale>,
    /// The limits of one instance. Default: the backend's.
    pub resources: Resources,
    /// On what kind of machine it runs, if the platform has such. Default: `standard`, which is any.
    pub runtime: Runtime,
    /// How its health is told.
    pub probes: Probes,
    /// How it is stopped.
    pub stop: Stop,
    /// What happens when it ends. Default: `always`.
    pub restart: RestartPolicy,
    /// Who it runs as. Default: `unprivileged`.
    pub user: User,
}

/// Between which bounds as many instances run as their work takes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Autoscale {
    /// The fewest instances, at least 1. Where nothing can be autoscaled so many run.
    pub min: u32,
    /// The most instances.
    pub max: u32,
    /// How much of its `resources.cpu` an instance uses on average while they are neither too few nor too many, in percent.
    pub cpu: u32,
}

/// The number of a port inside, from 1.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PortNumber(pub u16);

/// A port inside an instance: a number alone speaks HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Port {
    /// Its number.
    pub number: PortNumber,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// Named ports, in the order of the file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ports(pub Vec<(Name, Port)>);

/// The limits of one instance.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Resources {
    /// Its share of the CPU.
    pub cpu: Option<Cpu>,
    /// Its memory; beyond it is killed.
    pub memory: Option<Bytes>,
    /// How many processes and threads it may have.
    pub pids: Option<NonZeroU32>,
}

/// How the health of an instance is told.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Probes {
    /// Until it succeeds the others wait; when it fails for good the process is restarted.
    pub startup: Option<Probe>,
    /// While it fails the instance gets no traffic. Default: a connection to the first port.
    pub readiness: Option<Probe>,
    /// When it fails for good the process is restarted.
    pub liveness: Option<Probe>,
}

/// A repeated check.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(try_from = "ProbeSettings")]
pub struct Probe(pub model::Probe);

/// How a process is stopped.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Stop {
    /// The signal that asks it to stop. Default: `SIGTERM`.
    pub signal: Option<String>,
    /// How long it may take before it is killed, at most `1h`. Default: `30s`.
    pub grace: Option<Seconds>,
}

/// A repeated check: exactly one of `http`, `tcp` and `exec`.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ProbeSettings {
    /// A GET of this path answers 200 to 399.
    pub http: Option<String>,
    /// A connection succeeds: `true` for the first port, or the port's name.
    pub tcp: Option<TcpCheck>,
    /// This command, run inside the instance, exits with 0.
    pub exec: Option<CommandLine>,
    /// The name of the port that `http` asks. Default: the first.
    pub port: Option<Name>,
    /// How long to wait before the first check. Default: `0s`.
    pub delay: Option<Seconds>,
    /// The time between checks. Default: `10s`.
    pub period: Option<Seconds>,
    /// How long a check may take. Default: `1s`.
    pub timeout: Option<Seconds>,
    /// So many failures in a row fail the probe for good. Default: 3.
    pub failures: Option<NonZeroU32>,
}

/// Which port a `tcp` probe connects to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TcpCheck(pub Option<Name>);

impl TryFrom<ProbeSettings> for Probe {
    type Error = &'static str;

    fn try_from(settings: ProbeSettings) -> Result<Self, Self::Error> {
        let (port, http) = (settings.port, settings.http.is_some());
        let check = match (settings.http, settings.tcp, settings.exec) {
            (Some(path), None, None) if path.starts_with('/') => ProbeCheck::Http {
                path,
                port: port.clone(),
            },
            (Some(_), None, None) => return Err("the path of an `http` probe starts with `/`"),
            (None, Some(TcpCheck(port)), None) => ProbeCheck::Tcp { port },
            (None, None, Some(CommandLine(command))) => ProbeCheck::Exec { command },
            _ => return Err("a probe has exactly one of `http`, `tcp` and `exec`"),
        };
        if port.is_some() && !http {
            return Err(
                "`port` belongs to an `http` probe; a `tcp` probe names its port itself, as in `tcp = \"admin\"`",
            );
        }
        let mut probe = model::Probe::new(check);
        probe.delay_seconds = settings.delay.map_or(probe.delay_seconds, |delay| delay.0);
        probe.period_seconds = settings
            .period
            .map_or(probe.period_seconds, |period| period.0);
        probe.timeout_seconds = settings
            .timeout
            .map_or(probe.timeout_seconds, |timeout| timeout.0);
        probe.failures = settings.failures.map_or(probe.failures, NonZeroU32::get);
        if probe.period_seconds == 0 || probe.timeout_seconds == 0 {
            return Err("`period` and `timeout` of a probe are at least `1s`");
        }
        Ok(Self(probe))
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = PortNumber;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port number from 1 to 65535")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<PortNumber, E> {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        port.map(PortNumber)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
    }
}

impl<'de> Deserialize<'de> for PortNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

impl JsonSchema for PortNumber {
    fn schema_name() -> Cow<'static, str> {
        "PortNumber".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 65535 })
    }
}

/// A port with its protocol.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PortSettings {
    /// Its number inside.
    number: PortNumber,
    /// What is spoken there. Default: `http`.
    #[serde(default)]
    protocol: Protocol,
}

struct PortVisitor;

impl<'de> Visitor<'de> for PortVisitor {
    type Value = Port;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port number, or a table with `number` and `protocol`")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Port, E> {
        Ok(Port {
            number: NumberVisitor.visit_i64(number)?,
            protocol: Protocol::default(),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Port, A::Error> {
        let settings = PortSettings::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Port {
            number: settings.number,
            protocol: settings.protocol,
        })
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PortVisitor)
    }
}

impl JsonSchema for Port {
    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A port inside: its number, or a table with its protocol.",
            "oneOf": [
                generator.subschema_for::<PortNumber>(),
                PortSettings::json_schema(generator),
            ],
        })
    }
}

struct PortsVisitor;

impl<'de> Visitor<'de> for PortsVisitor {
    type Value = Ports;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of port numbers by name, such as { http = 8080 }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ports, A::Error> {
        let mut ports = Vec::new();
        while let Some(entry) = map.next_entry()? {
            ports.push(entry);
        }
        Ok(Ports(ports))
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PortsVisitor)
    }
}

impl JsonSchema for Ports {
    fn schema_name() -> Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Ports by name. The first is meant wherever none is named.",
            "type": "object",
            "propertyNames": generator.subschema_for::<Name>(),
            "additionalProperties": generator.subschema_for::<Port>(),
        })
    }
}

struct TcpVisitor;

impl Visitor<'_> for TcpVisitor {
    type Value = TcpCheck;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true`, or the name of a port")
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<TcpCheck, E> {
        let only_true = || E::invalid_value(de::Unexpected::Bool(false), &self);
        on.then_some(TcpCheck(None)).ok_or_else(only_true)
    }

    fn visit_str<E: de::Error>(self, port: &str) -> Result<TcpCheck, E> {
        Name::new(port).map(Some).map(TcpCheck).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for TcpCheck {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TcpVisitor)
    }
}

impl JsonSchema for TcpCheck {
    fn schema_name() -> Cow<'static, str> {
        "TcpCheck".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [{ "const": true }, generator.subschema_for::<Name>()] })
    }
}
