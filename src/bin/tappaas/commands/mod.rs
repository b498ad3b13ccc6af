//! What each command does.

mod applications;
mod cluster;
mod config;
mod deploy;
mod doctor;
mod environments;
mod exec;
mod init;
mod install;
mod logs;
mod operation;
mod server;
mod session;
mod up;
mod volumes;

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory as _;

use self::session::Session;
use crate::{
    cli::{Cli, Command, Global},
    output::Printer,
    place::{self, DataDir},
    serve,
};

/// Runs a command to its end.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode> {
    let printer = Printer::new(cli.global.output);
    let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
    match cli.command {
        Command::Completions { shell } => {
            // Not to the standard output at once: its reader may go away, as `head` does.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tappaas", &mut script);
            printer.raw(&script);
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor => done(doctor::doctor(printer).await),
        Command::Init { path } => done(init::init(printer, &path)),
        Command::Install(args) if args.print => done(cluster::print(printer, &args)),
        Command::Install(args) => {
            let data = data(&cli.global)?;
            let program = place::program()?;
            done(install::install(printer, &data, &program, args.yes))
        }
        Command::Operator(args) => done(Box::pin(serve::operator(&args)).await),
        Command::Serve(args) => done(serve::serve(&data(&cli.global)?, &args).await),
        Command::Up(args) => up::up(printer, &cli.global, &data(&cli.global)?, &args).await,
        command => remote(command, &cli.global, printer).await,
    }
}

fn data(global: &Global) -> Result<DataDir> {
    DataDir::find(global.data_dir.as_deref())
}

/// The commands that ask a running server.
async fn remote(command: Command, global: &Global, printer: Printer) -> Result<ExitCode> {
    let session = Session::open(&data(global)?, global, printer).await?;
    let done = match command {
        Command::Deploy(args) => return deploy::deploy(&session, &args).await,
        Command::Exec(args) => return exec::exec(&session, &args).await,
        Command::Rollback(args) => return deploy::rollback(&session, &args).await,
        Command::Restart { app, no_wait } => {
            return deploy::restart(&session, &app.app, no_wait).await;
        }
        Command::Scale(args) => return deploy::scale(&session, &args).await,
        Command::Destroy(args) => return deploy::destroy(&session, &args).await,
        Command::Config(command) => return config::config(&session, command).await,
        Command::Plan(args) => deploy::plan(&session, &args).await,
        Command::Apps => applications::apps(&session).await,
        Command::Status(args) => applications::status(&session, &args.app).await,
        Command::Releases(args) => applications::releases(&session, &args.app).await,
        Command::Diff(args) => applications::diff(&session, &args).await,
        Command::Builds(args) => applications::builds(&session, &args.app.app).await,
        Command::Logs(args) => logs::logs(&session, &args).await,
        Command::Volumes(command) => volumes::volumes(&session, command).await,
        Command::Env(command) => environments::environments(&session, command).await,
        Command::Cancel { operation } => operation::cancel(&session, &operation).await,
        Command::Stop(args) => server::stop(&session, &args).await,
        Command::Completions { .. }
        | Command::Doctor
        | Command::Init { .. }
        | Command::Install(_)
        | Command::Operator(_)
        | Command::Serve(_)
        | Command::Up(_) => unreachable!("these need no server"),
    };
    done.map(|()| ExitCode::SUCCESS)
}
