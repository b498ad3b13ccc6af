use std::{net::SocketAddr, sync::Arc, time::Duration};

use tappaas_core::{
    Result,
    backend::{RouteId, RouteStatus, Signal},
};
use tokio::sync::broadcast;

use super::supervisor::Supervisor;
use crate::{
    control::{Ask, Tell, Unbound, unexpected},
    edge::Edge,
    metrics,
    routes::Change,
    signals::Sampler,
    table::Table,
};

/// The length of a window that signals are about.
pub(super) const WINDOW: Duration = Duration::from_secs(1);

/// An edge, wherever it lives.
#[derive(Debug)]
pub(super) enum Driver {
    InProcess(Arc<Edge>),
    Process(Arc<Supervisor>),
}

impl Driver {
    pub(super) async fn set_table(&self, table: Table) -> Result<Vec<Unbound>> {
        match self {
            Self::InProcess(edge) => edge.set_table(table).await,
            Self::Process(supervisor) => match supervisor.ask(&Ask::SetTable(table)).await? {
                Tell::Applied { unbound } => Ok(unbound),
                other => Err(unexpected(&other)),
            },
        }
    }

    pub(super) async fn change(&self, change: Change) -> Result<Vec<Unbound>> {
        match self {
            Self::InProcess(edge) => edge.change(change).await,
            Self::Process(supervisor) => match supervisor.ask(&Ask::Change(change)).await? {
                Tell::Applied { unbound } => Ok(unbound),
                other => Err(unexpected(&other)),
            },
        }
    }

    pub(super) async fn table(&self) -> Result<Table> {
        match self {
            Self::InProcess(edge) => Ok(edge.table().await),
            Self::Process(supervisor) => match supervisor.ask(&Ask::Table).await? {
                Tell::Table(table) => Ok(table),
                other => Err(unexpected(&other)),
            },
        }
    }

    pub(super) async fn observe(&self, id: &RouteId) -> Result<Option<RouteStatus>> {
        match self {
            Self::InProcess(edge) => edge.observe(id).await,
            Self::Process(supervisor) => match supervisor.ask(&Ask::Observe(id.clone())).await? {
                Tell::Status(status) => Ok(status),
                other => Err(unexpected(&other)),
            },
        }
    }

    pub(super) async fn metrics(&self) -> Result<String> {
        match self {
            Self::InProcess(edge) => Ok(metrics::render(edge.context())),
            Self::Process(supervisor) => match supervisor.ask(&Ask::Metrics).await? {
                Tell::Metrics(text) => Ok(text),
                other => Err(unexpected(&other)),
            },
        }
    }

    pub(super) async fn listen(&self) -> Result<Vec<SocketAddr>> {
        match self {
            Self::InProcess(edge) => Ok(edge.listen()),
            Self::Process(supervisor) => Ok(supervisor.hello().await?.listen),
        }
    }

    pub(super) async fn pid(&self) -> Result<u32> {
        match self {
            Self::InProcess(_) => Ok(std::process::id()),
            Self::Process(supervisor) => Ok(supervisor.hello().await?.pid),
        }
    }

    pub(super) async fn stop(&self, drain: Duration) -> Result<()> {
        match self {
            Self::InProcess(edge) => {
                edge.shut();
                edge.drain(drain).await;
                Ok(())
            }
            Self::Process(supervisor) => supervisor.stop(drain).await,
        }
    }
}

/// Samples the signals of an edge in this process until nobody can listen any more.
pub(super) async fn sample(edge: Arc<Edge>, signals: broadcast::Sender<Signal>) {
    let plane = &edge.context().plane;
    let mut sampler = Sampler::new(plane);
    loop {
        Sampler::window(plane, WINDOW).await;
        for signal in sampler.sample(plane) {
            // Without a listener there is nobody to miss it.
            let _ = signals.send(signal);
        }
    }
}
