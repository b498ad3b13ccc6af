use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tappaas::{MachineConfig, Settings, local, tls};
use tappaas_core::model::{EnvValue, Host};

use crate::{
    cli::{Isolation, ServeArgs},
    place::{self, DataDir},
};

/// The configuration file. Every key is optional; the name of a backend's table is the backend.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Config {
    /// Where applications are served.
    http: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub(super) admin: SocketAddr,
    /// The domain under which applications get their default hosts.
    base: Host,
    scheduler: Scheduler,
    builder: Builder,
    ingress: Ingress,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Scheduler {
    Local(local::SchedulerConfig),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Builder {
    Local(local::BuilderConfig),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Ingress {
    Edge(tls::EdgeConfig),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9180)),
            base: Settings::default().base,
            scheduler: Scheduler::Local(local::SchedulerConfig::default()),
            builder: Builder::Local(local::BuilderConfig::default()),
            ingress: Ingress::Edge(tls::EdgeConfig::default()),
        }
    }
}

impl Config {
    /// Reads the file, if one was named, and applies what was said on the command line.
    pub(super) fn read(args: &ServeArgs) -> Result<Self> {
        let mut config = match &args.config {
            Some(path) => Self::parse(path)?,
            None => Self::default(),
        };
        config.http = args.http.unwrap_or(config.http);
        config.admin = args.admin.unwrap_or(config.admin);
        if let Some(isolation) = args.isolation {
            let Scheduler::Local(scheduler) = &mut config.scheduler;
            scheduler.isolation = match isolation {
                Isolation::Auto => local::Confinement::Sandbox,
                Isolation::None => local::Confinement::None,
            };
        }
        Ok(config)
    }

    /// Says whether applications are to run without a sandbox.
    pub(super) fn unconfined(&self) -> bool {
        let Scheduler::Local(scheduler) = &self.scheduler;
        scheduler.isolation == local::Confinement::None
    }

    fn parse(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        toml::from_str(&text).with_context(|| format!("cannot use {shown}"))
    }

    pub(super) fn machine(self, data: &DataDir) -> Result<MachineConfig> {
        let (Scheduler::Local(scheduler), Builder::Local(mut builder)) =
            (self.scheduler, self.builder);
        let Ingress::Edge(mut edge) = self.ingress;
        edge.listen = vec![self.http];
        for (name, value) in place::build_environment() {
            builder
                .environment
                .entry(name)
                .or_insert_with(|| EnvValue::new(value));
        }
        let defaults = MachineConfig::new(data.path(), place::program()?);
        Ok(MachineConfig {
            base: self.base,
            scheduler: local::SchedulerConfig {
                data_dir: defaults.scheduler.data_dir,
                helper: defaults.scheduler.helper,
                ..scheduler
            },
            builder: local::BuilderConfig {
                data_dir: defaults.builder.data_dir,
                ..builder
            },
            edge,
            ..defaults
        })
    }
}
