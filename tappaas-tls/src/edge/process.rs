use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use rustix::{
    fs::{FlockOperation, flock},
    process::{Resource, getpriority_process, getrlimit, setpriority_process, setrlimit, setsid},
};
use tappaas_core::{Chain, Clock, Error, Result, Timestamp};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use super::{Edge, Inherited, file};
use crate::{
    config::EdgeConfig,
    control::{Ask, Connection, Daemon, Stop, accept, bind},
};

pub(crate) const EDGE_ARGUMENT: &str = "__edge";
pub(crate) const TAKE_OVER_ARGUMENT: &str = "take-over";
const CONFIG: &str = "edge.json";
const LOCK: &str = "edge.lock";
/// An application that spins makes what wakes up beside it wait for milliseconds, unless that has several times its weight. Every
/// request waits for the edge twice, whomever it is for.
const NICE: i32 = -10;
/// The edge before this one lets go of its lock before it says so.
const LOCK_MAX: Duration = Duration::from_secs(5);
/// Who stops a process by a signal does not wait for hours.
const SIGNALLED_DRAIN_MAX: Duration = Duration::from_secs(30);

/// Runs an edge and never returns, if this process was started as one; returns at once if not.
///
/// Call it first thing in the `main` of the program that is given as [`Place::Process::helper`](crate::Place::Process).
pub fn helper_main() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != EDGE_ARGUMENT) {
        return;
    }
    std::process::exit(match run(arguments) {
        Ok(()) => 0,
        Err(error) => {
            // The starter reads one line and logs it; without a starter there is nobody to tell.
            let _ = writeln!(io::stdout(), "{}", Chain(&error));
            1
        }
    });
}

/// Leaves the configuration for the edge about to be started in `state`. One that is there already is not written again: an edge that
/// dies on a full disk has a successor all the same.
///
/// # Errors
/// When the directory cannot be written.
pub(crate) fn write_config(state: &Path, config: &EdgeConfig) -> io::Result<()> {
    let config = serde_json::to_vec_pretty(config)?;
    if std::fs::read(state.join(CONFIG)).is_ok_and(|found| found == config) {
        return Ok(());
    }
    file::make_directory(state)?;
    file::write_whole(state, CONFIG, &config)
}

fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let state = arguments.next().map(PathBuf::from);
    let state = state.ok_or_else(|| Error::invalid("expected the edge's state directory"))?;
    let take_over = arguments
        .next()
        .is_some_and(|argument| argument == TAKE_OVER_ARGUMENT);
    // Away from the starter's terminal and process group: it may go, this stays. One that leads a session already needs no other.
    let _ = setsid();
    raise_descriptor_limit();
    take_precedence();
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO);
    log.with_writer(io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error| Error::internal("cannot start the runtime").with_source(error))?;
    runtime.block_on(serve(state, take_over))
}

/// Every proxied request takes two descriptors, and the usual soft limit is 1,024.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With the old limit there are fewer connections, which `accept` copes with.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Of this thread, and of those that it starts from now on.
fn take_precedence() {
    if getpriority_process(None).is_ok_and(|nice| nice > NICE) {
        // A plain user's edge goes on without.
        let _ = setpriority_process(None, NICE);
    }
}

async fn serve(state: PathBuf, take_over: bool) -> Result<()> {
    let config = std::fs::read(state.join(CONFIG))
        .map_err(|error| Error::internal(format!("cannot read {CONFIG}")).with_source(error))?;
    let malformed = |error| Error::invalid(format!("{CONFIG} is malformed")).with_source(error);
    let settings: EdgeConfig = serde_json::from_slice(&config).map_err(malformed)?;
    let config = serde_json::from_slice(&config).map_err(malformed)?;
    let (edge, lock, control) = if take_over {
        taken_over(&state, &settings).await?
    } else {
        fresh(&state, &settings).await?
    };
    let daemon = Daemon::new(edge, state, config, lock);
    tokio::spawn(accept(control, Arc::clone(&daemon)));
    tracing::info!(listen = ?daemon.edge.listen(), take_over, "serving");
    // A starter that has gone by now does not need to know.
    let _ = writeln!(io::stdout(), "{READY}");
    let drain = match stopped(&daemon, &settings).await? {
        Stop::TakenOver => Duration::from_millis(settings.timeouts.drain_ms),
        Stop::Told(drain) => drain,
    };
    tracing::info!(?drain, "leaving");
    daemon.edge.drain(drain).await;
    Ok(())
}

/// The line that says that the edge serves.
pub(crate) const READY: &str = "ready";

async fn fresh(state: &Path, settings: &EdgeConfig) -> Result<(Arc<Edge>, File, UnixListener)> {
    file::make_directory(state)
        .map_err(|error| Error::internal("cannot make the state directory").with_source(error))?;
    let lock = lock(state).await?;
    let edge = Edge::start(state, settings, Arc::new(SystemClock), None).await?;
    let control = bind(state)
        .map_err(|error| Error::internal("cannot open the control socket").with_source(error))?;
    Ok((edge, lock, control))
}

async fn taken_over(
    state: &Path,
    settings: &EdgeConfig,
) -> Result<(Arc<Edge>, File, UnixListener)> {
    let mut predecessor = Connection::open(state).await?;
    let handed = predecessor.take_over().await?;
    let inherited = Inherited {
        table: handed.table,
        http: handed.http,
        inner: handed.inner,
    };
    let edge = Edge::start(state, settings, Arc::new(SystemClock), Some(inherited)).await?;
    let useless =
        |error: io::Error| Error::internal("the control socket is of no use").with_source(error);
    handed.control.set_nonblocking(true).map_err(useless)?;
    let control = UnixListener::from_std(handed.control).map_err(useless)?;
    predecessor.ask(&Ask::Commit).await?;
    edge.succeed(predecessor).await;
    Ok((edge, lock(state).await?, control))
}

/// Makes this process the one edge of its state directory.
async fn lock(state: &Path) -> Result<File> {
    let unusable = |error: io::Error| {
        Error::internal(format!("cannot lock {}", state.display())).with_source(error)
    };
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(state.join(LOCK))
        .map_err(unusable)?;
    let until = Instant::now() + LOCK_MAX;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::already_exists(format!(
                    "an edge runs in {} already",
                    state.display()
                )));
            }
            Err(error) => return Err(unusable(error.into())),
        }
    }
}

async fn stopped(daemon: &Daemon, settings: &EdgeConfig) -> Result<Stop> {
    let unheard =
        |error: io::Error| Error::internal("cannot listen for signals").with_source(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
    let mut stop = daemon.stop.subscribe();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = stop.wait_for(Option::is_some) => {}
    }
    let drain = Duration::from_millis(settings.timeouts.drain_ms).min(SIGNALLED_DRAIN_MAX);
    if daemon.stop.borrow().is_none() {
        daemon.leave(Stop::Told(drain));
    }
    let told = *daemon.stop.borrow();
    Ok(told.unwrap_or(Stop::Told(drain)))
}

/// The clock of the machine: an edge's process is a program of its own, and this is the one place where it tells the time.
#[derive(Debug)]
struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that the rest takes"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }
}
