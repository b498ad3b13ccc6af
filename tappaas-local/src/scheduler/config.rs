use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tappaas_core::{
    Error, Result,
    manifest::{Bytes, Cpu},
};

use crate::{
    network::{NetworkSettings, Range},
    sandbox::LogLimits,
};

/// How applications run on this machine.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SchedulerConfig {
    /// The folder that holds everything: layers, instances, volumes. Created if missing. One process at a time.
    #[serde(default)]
    pub data_dir: PathBuf,
    /// The program that calls [`helper_main`](crate::helper_main) first thing, for the processes that outlive this one.
    #[serde(default)]
    pub helper: PathBuf,
    /// How strongly processes are confined.
    #[serde(default)]
    pub isolation: Confinement,
    /// What instances can reach.
    #[serde(default)]
    pub network: NetworkConfig,
    /// Limits of an instance whose template gives none.
    #[serde(default)]
    pub limits: DefaultLimits,
    /// Bounds of logs.
    #[serde(default)]
    pub logs: LogConfig,
    /// What is given out instead of all the machine has.
    #[serde(default)]
    pub capacity: CapacityConfig,
    /// Folders with language toolchains that the stack `host` has besides the system's own, such as `/opt/rust`: the builder's.
    #[serde(default)]
    pub toolchains: Vec<PathBuf>,
    /// The name of this machine as a node.
    #[serde(default = "node")]
    pub node: String,
}

fn node() -> String {
    "local".to_owned()
}

impl SchedulerConfig {
    /// Everything in `data_dir`, by its defaults.
    pub fn new(data_dir: impl Into<PathBuf>, helper: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            helper: helper.into(),
            isolation: Confinement::default(),
            network: NetworkConfig::default(),
            limits: DefaultLimits::default(),
            logs: LogConfig::default(),
            capacity: CapacityConfig::default(),
            toolchains: Vec::new(),
            node: node(),
        }
    }
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self::new(PathBuf::new(), PathBuf::new())
    }
}

/// How strongly processes are confined.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Confinement {
    /// As strongly as this machine allows: in a sandbox, or not at all if it allows none.
    #[default]
    Sandbox,
    /// Not at all: plain processes with all of this user's rights, on the machine's network. For trusted code only.
    None,
}

/// What instances can reach.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkConfig {
    /// The addresses of instances, `address/prefix`, if root runs them. Nothing else on the machine's networks may use them.
    pub range: String,
    /// The prefix of each application's part of the range: it bounds the instances of an application.
    pub subnet_prefix: u8,
    /// Networks that instances never reach, `address/prefix` each: above all where clouds tell machines their secrets.
    pub denied: Vec<String>,
    /// The `pasta` program that connects instances to the outside if a plain user runs them; without it they reach nothing.
    pub pasta: Option<PathBuf>,
    /// Instances share the machine's network, if a plain user runs them: they reach every service of the machine.
    pub host: bool,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        let NetworkSettings { range, denied } = NetworkSettings::default();
        let network = |(base, prefix): (Ipv4Addr, u8)| format!("{base}/{prefix}");
        Self {
            range: network((range.base, range.prefix)),
            subnet_prefix: range.subnet_prefix,
            denied: denied.into_iter().map(network).collect(),
            pasta: None,
            host: false,
        }
    }
}

impl NetworkConfig {
    pub(super) fn settings(&self) -> Result<NetworkSettings> {
        let (base, prefix) = network(&self.range)?;
        Ok(NetworkSettings {
            range: Range {
                base,
                prefix,
                subnet_prefix: self.subnet_prefix,
            },
            denied: self
                .denied
                .iter()
                .map(|text| network(text))
                .collect::<Result<_>>()?,
        })
    }
}

fn network(text: &str) -> Result<(Ipv4Addr, u8)> {
    let parsed = text.split_once('/').and_then(|(base, prefix)| {
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        Some((base.parse().ok()?, prefix))
    });
    parsed.ok_or_else(|| {
        Error::invalid(format!(
            "`{text}` is no network: expected `address/prefix`, such as `10.208.0.0/12`"
        ))
    })
}

/// Limits of an instance whose template gives none.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DefaultLimits {
    /// Memory. Default: 512 MiB.
    pub memory: Bytes,
    /// CPU. Default: unbounded.
    pub cpu: Option<Cpu>,
    /// Processes and threads. Default: 512.
    pub pids: u32,
    /// The size of `/tmp`, which counts as memory; at most a quarter of it. Default: 64 MiB.
    pub tmp: Bytes,
}

impl Default for DefaultLimits {
    fn default() -> Self {
        Self {
            memory: Bytes(512 << 20),
            cpu: None,
            pids: 512,
            tmp: Bytes(64 << 20),
        }
    }
}

/// Bounds of logs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogConfig {
    /// A log file of this size is put aside. Default: 10 MiB.
    pub file_bytes: u64,
    /// How many files put aside are kept of each instance. Default: 4.
    pub files: u32,
    /// A longer line is split. Default: 16 KiB.
    pub line_bytes: usize,
    /// What an instance writes faster has to wait, in bytes a second. Default: 8 MiB.
    pub bytes_per_second: u64,
    /// Of how many ended instances the logs are kept, for each workload. Default: 10.
    pub ended_instances: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        let limits = LogLimits::default();
        Self {
            file_bytes: limits.file_bytes,
            files: limits.files,
            line_bytes: limits.line_bytes,
            bytes_per_second: limits.bytes_per_second,
            ended_instances: 10,
        }
    }
}

impl LogConfig {
    pub(super) fn limits(&self) -> LogLimits {
        LogLimits {
            file_bytes: self.file_bytes,
            files: self.files,
            line_bytes: self.line_bytes,
            bytes_per_second: self.bytes_per_second,
        }
    }
}

/// What is given out to instances; what is not given is what the machine has.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CapacityConfig {
    /// CPU in thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Instances. Default: 1,000.
    pub instances: Option<u32>,
}

pub(super) fn unusable(folder: &Path, error: std::io::Error) -> Error {
    Error::invalid(format!(
        "the data directory {} cannot be used",
        folder.display()
    ))
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_file_may_leave_out_all_but_the_folders() {
        let config: SchedulerConfig =
            toml::from_str("data-dir = '/var/lib/x'\nhelper = '/usr/bin/x'").unwrap();
        assert_eq!(config, SchedulerConfig::new("/var/lib/x", "/usr/bin/x"));
        assert_eq!(
            config.network.settings().unwrap().denied,
            NetworkSettings::default().denied
        );
    }

    #[test]
    fn a_key_that_nobody_knows_is_refused() {
        let error =
            toml::from_str::<SchedulerConfig>("data-dir = '/x'\nhelper = '/x'\n[limits]\nram = 1")
                .unwrap_err();
        assert!(error.to_string().contains("`memory`"), "{error}");
    }

    #[test]
    fn a_network_that_is_none_is_refused() {
        for text in ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0/8"] {
            assert!(network(text).unwrap_err().message().contains(text));
        }
    }
}
