//! What can be typed.

/// In a configuration file these are written as they are typed.
macro_rules! read_as_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse().map_err(|expected| format!("`{text}`: {expected}"))
            }
        }
    )*};
}

mod cluster;
mod commands;
mod runtimes;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, ValueEnum};
use tappaas_core::Name;

pub(crate) use cluster::{
    ClusterArgs, GatewayName, GatewayPods, Network, OperatorArgs, PriorityClass, gateways,
};
pub(crate) use commands::{
    Command, ConfigCommand, DeployArgs, DestroyArgs, DiffArgs, EnvCommand, ExecArgs, InstallArgs,
    LogsArgs, PlanArgs, RollbackArgs, ScaleArgs, StopArgs, UpArgs, VolumesCommand,
};
pub(crate) use runtimes::{GpuResource, RuntimeLabel, nodes};

/// A platform as a service: from a folder of source code to a running, routed application.
#[derive(Debug, Parser)]
#[command(
    name = "tappaas",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(
    after_help = "Start with:  tappaas up PATH   (builds and runs the folder, and prints its address)"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The tenant: whose applications
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub(crate) tenant: Name,

    /// The project that the applications are in
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub(crate) project: Name,

    /// The environment of the project, such as staging
    #[arg(long, global = true, default_value = "production", value_name = "NAME")]
    pub(crate) env: Name,

    /// Where the server keeps its data; other commands find it by the same folder [default: as root /var/lib/tappaas, else ~/.local/share/tappaas]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Print text for people, or JSON for programs
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "text",
        hide_possible_values = true,
        value_name = "text|json"
    )]
    pub(crate) output: Format,
}

/// How to print.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What a server needs to know.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ServeArgs {
    /// Where applications are served [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    pub(crate) http: Option<SocketAddr>,

    /// Where /healthz, /readyz and /metrics are served [default: 127.0.0.1:9180]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    pub(crate) admin: Option<SocketAddr>,

    /// A configuration file in TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// How instances are kept apart: `auto` in the strongest sandbox that this machine allows, `none` not at all (for code that you trust) [default: auto]
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "auto|none"
    )]
    pub(crate) isolation: Option<Isolation>,

    /// Leave the terminal's session
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

impl ServeArgs {
    /// Says whether anything was asked for.
    pub(crate) fn is_set(&self) -> bool {
        self.http.is_some()
            || self.admin.is_some()
            || self.config.is_some()
            || self.isolation.is_some()
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected an address and a port, such as 127.0.0.1:8080".to_owned())
}

/// How instances are kept apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Isolation {
    /// As well as this machine allows; refuses to start where it allows nothing.
    Auto,
    /// Not at all.
    None,
}
