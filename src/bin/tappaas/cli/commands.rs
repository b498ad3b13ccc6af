use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};
use clap_complete::Shell;
use tappaas_core::Name;

use super::{ClusterArgs, OperatorArgs, ServeArgs};

/// The commands, in the order that a newcomer meets them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build and run a folder, print its address and follow its logs; Ctrl-C stops what this started
    Up(UpArgs),
    /// Write a tappaas.toml to start from
    Init {
        /// The folder of the source code
        #[arg(default_value = ".")]
        path: PathBuf,
    },
    /// Build and release a folder or an image, and wait until it is healthy
    Deploy(DeployArgs),
    /// Show the steps that deploying a folder would take, and do nothing
    Plan(PlanArgs),
    /// List the applications
    Apps,
    /// Show an application: its release, hosts, processes and instances
    Status(AppArgs),
    /// Show what an application wrote to its output
    Logs(LogsArgs),
    /// List the releases of an application
    Releases(AppArgs),
    /// Make a new release with the content of an older one
    Rollback(RollbackArgs),
    /// Show what differs between two releases
    Diff(DiffArgs),
    /// List the builds of an application
    Builds(BuildsArgs),
    /// Change how many instances run
    Scale(ScaleArgs),
    /// Replace every instance by a new one
    Restart {
        #[command(flatten)]
        app: AppArgs,
        /// Do not wait; print the operation's id
        #[arg(long)]
        no_wait: bool,
    },
    /// Run a command inside an instance
    Exec(ExecArgs),
    /// Set, unset or list an application's variables
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List or remove volumes
    #[command(subcommand)]
    Volumes(VolumesCommand),
    /// List, create or remove environments
    #[command(subcommand)]
    Env(EnvCommand),
    /// Cancel an operation that has not ended
    Cancel {
        /// The operation's id
        operation: String,
    },
    /// Stop an application and forget it; its volumes stay
    Destroy(DestroyArgs),
    /// Run the server in the foreground
    Serve(ServeArgs),
    /// Stop the server; applications go on
    Stop(StopArgs),
    /// Print a systemd unit for the server, and write it after a confirmation; or print what a Kubernetes cluster needs
    Install(Box<InstallArgs>),
    /// Run the platform inside of a Kubernetes cluster, in the foreground
    Operator(Box<OperatorArgs>),
    /// Say what this machine allows, and how to get more
    Doctor,
    /// Print a completion script
    Completions {
        /// The shell to complete commands in
        shell: Shell,
    },
}

/// An application.
#[derive(Args, Debug)]
pub(crate) struct AppArgs {
    /// The application's name
    #[arg(value_name = "APP")]
    pub(crate) app: Name,
}

#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// The folder of the source code
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// The application's name [default: the manifest's, else the folder's]
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// Leave it running and return once it is healthy
    #[arg(long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DeployArgs {
    /// The folder of the source code
    #[arg(required_unless_present = "image")]
    pub(crate) path: Option<PathBuf>,
    /// An image in the registry instead of source code
    #[arg(long, value_name = "REF", conflicts_with = "path")]
    pub(crate) image: Option<String>,
    /// The application's name [default: the manifest's, else the folder's or image's]
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// Do not wait; print the operation's id
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PlanArgs {
    /// The folder of the source code
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// The application's name [default: the manifest's, else the folder's]
    #[arg(long)]
    pub(crate) name: Option<Name>,
}

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// Go on with new lines as they come
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Lines of this process only
    #[arg(long, value_name = "NAME")]
    pub(crate) process: Option<Name>,
    /// Lines of the build with this number instead
    #[arg(long, value_name = "N", conflicts_with_all = ["process", "since"])]
    pub(crate) build: Option<u64>,
    /// No lines from before: a time such as 2026-11-21T08:00:00Z, or a span such as 10m
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// At most so many of the last lines
    #[arg(long, value_name = "LINES", default_value_t = 200)]
    pub(crate) tail: usize,
}

#[derive(Args, Debug)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// The release to go back to [default: the healthy one before the current]
    pub(crate) release: Option<u64>,
    /// Do not wait; print the operation's id
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// The older release
    pub(crate) from: u64,
    /// The newer release
    pub(crate) to: u64,
    /// Show the values of variables
    #[arg(long)]
    pub(crate) reveal: bool,
}

#[derive(Args, Debug)]
pub(crate) struct BuildsArgs {
    #[command(flatten)]
    pub(crate) app: AppArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ScaleArgs {
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// How many instances of which process
    #[arg(required = true, value_name = "PROCESS=N")]
    pub(crate) counts: Vec<Scale>,
    /// Do not wait; print the operation's id
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Args, Debug)]
pub(crate) struct InstallArgs {
    /// Write the unit without asking
    #[arg(long, conflicts_with = "print")]
    pub(crate) yes: bool,
    /// Print the objects of an operator for `kubectl apply --server-side -f -` instead: definitions, the least rights, a Deployment
    #[arg(long, requires = "image")]
    pub(crate) print: bool,
    /// The operator's image
    #[arg(long, value_name = "REF", requires = "print")]
    pub(crate) image: Option<String>,
    /// The operator's own namespace
    #[arg(
        long,
        value_name = "NAME",
        default_value = "tappaas",
        requires = "print"
    )]
    pub(crate) namespace: String,
    /// How many operators run; one of them acts
    #[arg(long, value_name = "N", default_value_t = 1, requires = "print")]
    pub(crate) replicas: u32,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// `web=3`.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    pub(crate) process: Name,
    pub(crate) count: u32,
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (process, count) = text
            .split_once('=')
            .ok_or("expected PROCESS=N, such as web=3")?;
        Ok(Self {
            process: process
                .parse()
                .map_err(|error: tappaas_core::Error| error.to_string())?,
            count: count
                .parse()
                .map_err(|_| format!("`{count}` is not a number of instances"))?,
        })
    }
}

#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// The process in an instance of which to run it [default: web, or the only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) process: Option<Name>,
    /// The instance to run it in, as `status` names it [default: one that is ready]
    #[arg(long, value_name = "ID")]
    pub(crate) instance: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Set variables, and roll out a release with them
    Set {
        #[command(flatten)]
        app: AppArgs,
        /// The variables; `KEY=-` reads the value from standard input
        #[arg(required = true, value_name = "KEY=VALUE")]
        variables: Vec<String>,
        /// Do not wait; print the operation's id
        #[arg(long)]
        no_wait: bool,
    },
    /// Unset variables, and roll out a release without them
    Unset {
        #[command(flatten)]
        app: AppArgs,
        /// The variables
        #[arg(required = true, value_name = "KEY")]
        names: Vec<String>,
        /// Do not wait; print the operation's id
        #[arg(long)]
        no_wait: bool,
    },
    /// List variables, and where each comes from
    List {
        #[command(flatten)]
        app: AppArgs,
        /// Show the values
        #[arg(long)]
        reveal: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumesCommand {
    /// List the volumes of this environment
    Ls,
    /// Delete a volume and all that is in it
    Rm {
        #[command(flatten)]
        app: AppArgs,
        /// The volume's name
        volume: Name,
        /// Delete without asking
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// List the environments of this project
    Ls,
    /// Create an environment
    Create {
        /// Its name
        name: Name,
    },
    /// Remove an environment that is empty
    Rm {
        /// Its name
        name: Name,
    },
}

#[derive(Args, Debug)]
pub(crate) struct DestroyArgs {
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// Delete its volumes and all that is in them, too
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Do not ask before volumes are deleted
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// Stop the applications, too
    #[arg(long)]
    pub(crate) apps: bool,
}
