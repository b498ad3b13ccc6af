//! `tappaas serve`: the server.

mod config;
mod operator;

use std::{future::IntoFuture as _, sync::Arc};

use anyhow::{Context as _, Result, bail};
use tappaas::Server;
use tappaas_api::{
    Limits, Metrics, MetricsSource, State, admin,
    client::Client,
    types::{Stop, Version},
};
use tappaas_core::Error;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub(crate) use self::operator::operator;

use self::config::Config;
use crate::{
    cli::ServeArgs,
    place::{self, DataDir},
};

/// What the builder would refuse need not be uploaded.
const SOURCE_MAX: u64 = tappaas::local::archive::Limits::SOURCE.bytes;

/// Why the server ends.
enum End {
    Signal,
    Asked { apps: bool },
}

/// Runs the server until it is told to stop. Applications go on, unless they are to stop, too.
pub(crate) async fn serve(data: &DataDir, args: &ServeArgs) -> Result<()> {
    if args.detached {
        rustix::process::setsid().context("cannot leave the terminal's session")?;
    }
    log();
    let config = Config::read(args)?;
    data.make()?;
    if Client::new(data.socket()).version().await.is_ok() {
        let shown = data.path().display();
        bail!(
            "a server runs already with data directory {shown}; stop it with `tappaas stop`, or name another with --data-dir"
        );
    }
    if config.unconfined() {
        tracing::warn!("applications run without a sandbox: they can do whatever their user can");
    }
    if rustix::process::geteuid().is_root() {
        data.let_pass()?;
    }
    let admin = TcpListener::bind(config.admin).await;
    let admin = admin.with_context(|| {
        format!(
            "cannot listen on {} for health and metrics; choose another with --admin",
            config.admin
        )
    })?;
    let server = Server::open(config.server(data)?).await?;
    let (ask, mut asked) = mpsc::channel(1);
    let state = state(&server, ask).await?;
    let figures = admin::router(server.platform().clone(), state.metrics.clone());
    let api = tappaas_api::listen(&data.socket()).await?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(tappaas_api::serve(
        api,
        state,
        stop.clone().cancelled_owned(),
    ));
    let watching =
        axum::serve(admin, figures).with_graceful_shutdown(stop.clone().cancelled_owned());
    let watching = tokio::spawn(watching.into_future());
    if let Some(address) = server.pulls() {
        tracing::info!(%address, "images are pulled here");
    }
    tracing::info!(data = %data.path().display(), "ready");
    let end = until_told(&mut asked).await?;
    // First: as long as the API answers, applications may be stopping.
    let stopped = match end {
        End::Asked { apps: true } => tokio::select! {
            stopped = server.stop_applications() => stopped,
            told = signalled() => told.and_then(|()| Err(Error::unavailable("told to end before every instance had stopped"))),
        },
        End::Asked { apps: false } | End::Signal => Ok(()),
    };
    stop.cancel();
    watching.abort();
    if let Err(error) = serving.await.context("the API's task")? {
        tracing::warn!(%error, "the API did not end well");
    }
    server.close().await;
    // No other server can have made one here yet: the data directory is this one's until the end.
    let _ = std::fs::remove_file(data.socket());
    stopped?;
    tracing::info!("stopped");
    Ok(())
}

/// What the API works with.
async fn state(server: &Server, stop: mpsc::Sender<Stop>) -> Result<State> {
    let ingress = match server.edge() {
        Some(edge) => edge.listen().await?,
        None => Vec::new(),
    };
    let sources = server.edge().cloned().map(|edge| {
        MetricsSource::new("edge", move || {
            let edge = edge.clone();
            async move { edge.metrics().await }
        })
    });
    let asked = operator::asked(server.requests().clone());
    let sources = Vec::from_iter(sources.into_iter().chain([asked]));
    Ok(State {
        platform: server.platform().clone(),
        version: Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: "v1".to_owned(),
            ingress: ingress.first().map(ToString::to_string),
        },
        stop,
        limits: Limits {
            source: SOURCE_MAX,
            ..Limits::default()
        },
        metrics: Arc::new(Metrics::new(server.platform().client(), sources)),
    })
}

async fn until_told(asked: &mut mpsc::Receiver<Stop>) -> Result<End> {
    Ok(tokio::select! {
        told = signalled() => told.map(|()| End::Signal)?,
        apps = asked.recv() => End::Asked { apps: apps.is_some_and(|stop| stop.apps) },
    })
}

/// Waits for a signal that tells the server to end.
async fn signalled() -> tappaas_core::Result<()> {
    let unable = |error| Error::internal("cannot wait for signals").with_source(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(unable)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unable)?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// What is logged if nobody says otherwise. The client of Kubernetes tells each failure that it also returns, and
/// who called it knows what was to be done.
const LOG: &str = "info,kube_client=off";

fn log() {
    let filter = place::log_filter().unwrap_or_else(|| LOG.to_owned());
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(LOG));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
