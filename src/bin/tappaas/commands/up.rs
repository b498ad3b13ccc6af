use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tappaas::Package;
use tappaas_api::types::{LogQuery, Stop};
use tappaas_core::Name;
use tokio::{
    net::UnixStream,
    signal::unix::{SignalKind, signal},
};

use super::{deploy, logs, operation, server, session::Session};
use crate::{
    cli::{Global, Isolation, ServeArgs, UpArgs},
    output::Printer,
    place::{self, DataDir},
};

/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a server's log is shown when it does not start.
const LOG_SHOWN: u64 = 4096;

/// Builds and runs a folder; starts a server if none runs, and stops what it started when it is interrupted.
pub(crate) async fn up(
    printer: Printer,
    global: &Global,
    data: &DataDir,
    args: &UpArgs,
) -> Result<ExitCode> {
    let package = Package::read(&args.path, args.name.as_ref())?;
    let session = Session::new(data, global, printer);
    // From now on: what is interrupted while the server starts stops it, too.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let started = !session.alive().await;
    // Applications that run without a server are not this command's to stop.
    let ran = UnixStream::connect(data.edge_socket()).await.is_ok();
    if started {
        if args.serve.isolation == Some(Isolation::None) {
            printer.note(
                "warning: applications run without a sandbox: they can do whatever their user can",
            );
        }
        start(&session, data, &args.serve).await?;
    } else if args.serve.is_set() {
        printer.note(
            "note: a server runs already; --http, --admin, --config and --isolation have no effect",
        );
    }
    let known = session
        .client
        .application(&session.environment, &package.name)
        .await
        .is_ok();
    let undo = Undo {
        server: started.then_some(Stop { apps: !ran }),
        application: (!known).then(|| package.name.clone()),
    };
    let outcome = tokio::select! {
        biased;
        _ = interrupt.recv() => {
            printer.note("\nstopping");
            undo.run(&session).await?;
            return Ok(ExitCode::SUCCESS);
        }
        outcome = run(&session, &package, args.detach) => outcome,
    };
    if !matches!(outcome, Ok(ExitCode::SUCCESS)) && !args.detach {
        undo.run(&session).await?;
    }
    outcome
}

async fn run(session: &Session, package: &Package, detach: bool) -> Result<ExitCode> {
    deploy::upload(session, package).await?;
    let accepted = session
        .client
        .deploy(
            &session.environment,
            &package.name,
            &deploy::deployment(package),
        )
        .await?;
    let code = operation::conclude(session, &accepted).await?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    deploy::urls(session, &package.name).await?;
    if detach {
        return Ok(code);
    }
    session
        .printer
        .note("following its logs; Ctrl-C stops what this command started");
    let query = LogQuery {
        follow: true,
        tail: Some(50),
        ..LogQuery::default()
    };
    let lines = session
        .client
        .logs(&session.environment, &package.name, &query)
        .await?;
    logs::print(session.printer, lines).await?;
    Ok(code)
}

/// What has to be undone when the command is interrupted or fails.
struct Undo {
    /// How the server that it started is to stop.
    server: Option<Stop>,
    /// The application, if there was none of its name.
    application: Option<Name>,
}

impl Undo {
    async fn run(self, session: &Session) -> Result<()> {
        if let Some(application) = self.application
            && session
                .client
                .application(&session.environment, &application)
                .await
                .is_ok()
        {
            let accepted = session
                .client
                .destroy(&session.environment, &application)
                .await?;
            if let Some(id) = accepted.operation {
                let mut progress = session.printer.progress();
                operation::follow(session, &id, &mut progress).await?;
            }
        }
        if let Some(mut stop) = self.server {
            // Where applications are served elsewhere, they run elsewhere, beside those of others.
            stop.apps &= session.client.version().await?.ingress.is_some();
            server::end(session, &stop).await?;
        }
        Ok(())
    }
}

/// Starts a server in the background, in a session of its own, and waits until it answers.
async fn start(session: &Session, data: &DataDir, args: &ServeArgs) -> Result<()> {
    data.make()?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(data.server_log());
    let log = log.with_context(|| format!("cannot write {}", data.server_log().display()))?;
    // What earlier servers wrote into it explains nothing now.
    let before = log.metadata().map_or(0, |log| log.len());
    let mut child = spawn(data, args, &log)?;
    let deadline = tokio::time::Instant::now() + START_TIMEOUT;
    while !session.alive().await {
        if let Some(status) = child.try_wait().context("cannot ask how the server is")? {
            bail!(
                "the server did not start ({status}):\n{}",
                last_of(data, before)
            );
        }
        if tokio::time::Instant::now() > deadline {
            bail!(
                "the server does not answer; its log is {}:\n{}",
                data.server_log().display(),
                last_of(data, before)
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn spawn(data: &DataDir, args: &ServeArgs, log: &File) -> Result<Child> {
    let mut command = Command::new(place::program()?);
    command.arg("serve").arg("--data-dir").arg(data.path());
    if let Some(http) = args.http {
        command.arg("--http").arg(http.to_string());
    }
    if let Some(admin) = args.admin {
        command.arg("--admin").arg(admin.to_string());
    }
    if let Some(config) = &args.config {
        command.arg("--config").arg(config);
    }
    if args.isolation == Some(Isolation::None) {
        command.arg("--isolation").arg("none");
    }
    // A session of its own: Ctrl-C on our terminal is ours to handle.
    command.arg("--detached");
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?);
    command.spawn().context("cannot start the server")
}

/// The end of what was written to the log since it had `before` bytes.
fn last_of(data: &DataDir, before: u64) -> String {
    let mut shown = Vec::new();
    // The error that this explains is the one to tell.
    let _ = File::open(data.server_log()).and_then(|mut log| {
        let end = log.metadata()?.len();
        log.seek(SeekFrom::Start(before.max(end.saturating_sub(LOG_SHOWN))))?;
        log.take(LOG_SHOWN).read_to_end(&mut shown)
    });
    String::from_utf8_lossy(&shown).trim_end().to_owned()
}
