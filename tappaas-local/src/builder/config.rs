use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use tappaas_core::{
    Error, Result,
    manifest::{Bytes, Cpu, Seconds},
    model::EnvValue,
};

use super::fit;

/// How the builder of one machine works.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BuilderConfig {
    /// The folder that holds everything: logs, caches, what is being built. Created if missing. One process at a time.
    #[serde(default)]
    pub data_dir: PathBuf,
    /// So many builds run at the same time; further ones wait. Default: 1.
    #[serde(default = "one")]
    pub concurrency: usize,
    /// What one build may use.
    #[serde(default)]
    pub limits: BuildLimits,
    /// What builds can reach. Default: the outside, where package registries are.
    #[serde(default)]
    pub network: BuildNetwork,
    /// Environment variables of every build, such as `GOPROXY` or `npm_config_registry`. What builds run can read them.
    #[serde(default)]
    pub environment: BTreeMap<String, EnvValue>,
    /// Folders with language toolchains that the stack `host` has besides the system's own, such as `/opt/rust`.
    #[serde(default)]
    pub toolchains: Vec<PathBuf>,
    /// The user id that builds run as. Nothing else should. Default: 19999.
    #[serde(default = "user")]
    pub user: u32,
    /// Of so many builds the logs are kept. Default: 500.
    #[serde(default = "logs")]
    pub logs: usize,
    /// The space that the caches of all applications may take together; the longest unused are deleted first. Default: 20 GiB.
    #[serde(default = "caches")]
    pub caches: Bytes,
    /// What is built runs elsewhere, as on a cluster's nodes: images are made on the stack `scratch` alone, since `host` is this machine's,
    /// and images of other registries are left where they are. Whoever puts a platform together knows; no file says it.
    #[serde(skip)]
    pub elsewhere: bool,
}

impl Default for BuilderConfig {
    fn default() -> Self {
        Self::new(PathBuf::new())
    }
}

/// What one build may use. One that exceeds a limit fails and is told which.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BuildLimits {
    /// Memory. Default: 2 GiB, or three quarters of the machine's if that is less.
    pub memory: Bytes,
    /// CPU. Default: three quarters of the machine's cores.
    pub cpu: Cpu,
    /// Processes and threads. Default: 4096.
    pub pids: u32,
    /// Time from the first step to the last. Default: 30 minutes.
    pub time: Seconds,
    /// Disk space for source, result, temporary files and the application's cache. Default: 10 GiB.
    ///
    /// It holds exactly where root can mount a file system of that size. Elsewhere it is measured while the build runs: what is
    /// written between two measurements, some seconds apart, comes on top. However much this is, builds leave 256 MiB of the machine's
    /// disk to others.
    pub disk: Bytes,
    /// The log. The middle of a longer one is left out. Default: 16 MiB.
    pub log: Bytes,
}

/// What builds can reach.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum BuildNetwork {
    /// The outside, as applications do.
    #[default]
    Outside,
    /// Nothing.
    None,
    /// Everything this machine reaches, its own services included. For trusted code only.
    Host,
}

impl BuilderConfig {
    /// Everything in `data_dir`, by its defaults.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            concurrency: one(),
            limits: BuildLimits::default(),
            network: BuildNetwork::default(),
            environment: BTreeMap::new(),
            toolchains: Vec::new(),
            user: user(),
            logs: logs(),
            caches: caches(),
            elsewhere: false,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::invalid(format!("the builder's {what}")));
        match self {
            Self { concurrency: 0, .. } => wrong("`concurrency` is 0: nothing would ever be built"),
            Self { user: 0, .. } => wrong("`user` is 0: builds never run as root"),
            Self { logs: 0, .. } => wrong("`logs` is 0: nobody could see why a build failed"),
            Self { limits, .. } if limits.pids == 0 => {
                wrong("limit `pids` is 0: nothing could run")
            }
            Self { limits, .. } if limits.disk < DISK_MIN => {
                wrong("limit `disk` is below 64 MiB: nothing could be built")
            }
            Self { data_dir, .. } if !data_dir.is_absolute() => {
                wrong("`data-dir` is not an absolute path")
            }
            _ => Ok(()),
        }
    }
}

/// A file system of its own does not get smaller.
const DISK_MIN: Bytes = Bytes(64 << 20);

impl Default for BuildLimits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(1024));
        let cores = u32::try_from(cores).unwrap_or(1);
        let memory = fit::machine_memory().unwrap_or(u64::MAX) / 4 * 3;
        Self {
            memory: Bytes(memory.min(2 << 30)),
            cpu: Cpu((cores * 750).max(500)),
            pids: 4096,
            time: Seconds(30 * 60),
            disk: Bytes(10 << 30),
            log: Bytes(16 << 20),
        }
    }
}

fn one() -> usize {
    1
}

fn user() -> u32 {
    19_999
}

fn logs() -> usize {
    500
}

fn caches() -> Bytes {
    Bytes(20 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_file_may_leave_out_all_but_the_folder() {
        let config: BuilderConfig = toml::from_str("data-dir = '/var/lib/x'").unwrap();
        assert_eq!(config, BuilderConfig::new("/var/lib/x"));
        config.check().unwrap();
    }

    #[test]
    fn values_of_the_environment_are_not_in_debug_output() {
        let text = "data-dir = '/x'\nnetwork = 'host'\nenvironment = { PIP_INDEX_URL = 'https://user:s3cret@index' }\n[limits]\nmemory = '1Gi'\ntime = '5m'";
        let config: BuilderConfig = toml::from_str(text).unwrap();
        assert_eq!(
            (config.limits.memory, config.limits.time),
            (Bytes(1 << 30), Seconds(300))
        );
        let shown = format!("{config:?}");
        assert!(
            shown.contains("PIP_INDEX_URL") && !shown.contains("s3cret"),
            "{shown}"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(toml::from_str::<BuilderConfig>("data-dir = '/x'\nconcurency = 2").is_err());
        let cases: [fn(&mut BuilderConfig); 5] = [
            |config| config.concurrency = 0,
            |config| config.user = 0,
            |config| config.limits.pids = 0,
            |config| config.limits.disk = Bytes(1 << 20),
            |config| config.data_dir = "relative".into(),
        ];
        for damage in cases {
            let mut config = BuilderConfig::new("/x");
            damage(&mut config);
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
