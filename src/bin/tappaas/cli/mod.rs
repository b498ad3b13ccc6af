//! What can be typed.

mod commands;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, ValueEnum};
use tappaas_core::Name;

pub(crate) use commands::{
    Command, ConfigCommand, DeployArgs, DestroyArgs, DiffArgs, EnvCommand, ExecArgs, LogsArgs,
    PlanArgs, RollbackArgs, ScaleArgs, StopArgs, UpArgs, VolumesCommand,
};

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
pub(crate) struct Global {
    /// Whose applications
    #[arg(
        long,
        global = true,
        default_value = "default",
        hide_default_value = true,
        value_name = "NAME"
    )]
    pub(crate) tenant: Name,

    /// In which project
    #[arg(
        long,
        global = true,
        default_value = "default",
        hide_default_value = true,
        value_name = "NAME"
    )]
    pub(crate) project: Name,

    /// In which environment [default: production]
    #[arg(
        long,
        global = true,
        default_value = "production",
        hide_default_value = true,
        value_name = "NAME"
    )]
    pub(crate) env: Name,

    /// Where the server keeps its data, and how a client finds it [default: /var/lib/tappaas as root, else the XDG data folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// How to print
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "text",
        hide_default_value = true,
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
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<SocketAddr>,

    /// Where /healthz, /readyz and /metrics are served [default: 127.0.0.1:9180]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,

    /// A configuration file in TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// How instances are kept apart; `none` runs them as plain processes
    #[arg(long, value_enum, value_name = "auto|none")]
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

/// How instances are kept apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Isolation {
    /// As well as this machine allows; refuses to start where it allows nothing.
    Auto,
    /// Not at all.
    None,
}
