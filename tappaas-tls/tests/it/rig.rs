//! An ingress to test, with routes.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use tappaas_core::{
    Clock, Timestamp,
    backend::{Action, Endpoint, Frontend, IngressProvider, Route, RouteId, RouteStatus, Target},
};
use tappaas_tls::{AccessLog, EdgeConfig, Ingress, IngressConfig, Place};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::client::PATIENCE;

pub(crate) const HOST: &str = "app.localhost";

/// An ingress on a free port, in a directory of its own.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) ingress: Ingress,
    pub(crate) address: SocketAddr,
    pub(crate) state: TempDir,
}

impl Rig {
    /// In this process.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// In this process, with changes to the configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut EdgeConfig)) -> Self {
        let state = tempfile::tempdir().unwrap();
        let ingress = start(state.path(), Place::InProcess, change).await;
        let address = ingress.listen().await.unwrap()[0];
        Self {
            ingress,
            address,
            state,
        }
    }

    /// Makes a route `web` of [`HOST`] that goes to these endpoints.
    pub(crate) async fn serve(&self, generation: u64, endpoints: &[Endpoint]) {
        self.ingress
            .apply(&web(generation, endpoints))
            .await
            .unwrap();
    }

    pub(crate) async fn status(&self) -> RouteStatus {
        self.ingress.observe(&id("web")).await.unwrap().unwrap()
    }

    pub(crate) async fn log(&self) -> String {
        tokio::fs::read_to_string(self.state.path().join("access.log"))
            .await
            .unwrap_or_default()
    }
}

pub(crate) async fn start(
    state: &Path,
    place: Place,
    change: impl FnOnce(&mut EdgeConfig),
) -> Ingress {
    let mut edge = EdgeConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        access_log: Some(AccessLog::default()),
        ..EdgeConfig::default()
    };
    change(&mut edge);
    let config = IngressConfig {
        state: state.to_owned(),
        place,
        edge,
    };
    Ingress::start(config, Arc::new(SystemClock)).await.unwrap()
}

pub(crate) fn id(name: &str) -> RouteId {
    RouteId {
        application: "default/default/production/app".parse().unwrap(),
        name: name.parse().unwrap(),
    }
}

pub(crate) fn web(generation: u64, endpoints: &[Endpoint]) -> Route {
    route("web", generation, HOST, "/", forward(endpoints))
}

pub(crate) fn route(name: &str, generation: u64, host: &str, path: &str, action: Action) -> Route {
    Route {
        id: id(name),
        generation,
        frontend: Frontend::Http {
            hosts: vec![host.parse().unwrap()],
            path: path.to_owned(),
        },
        action,
    }
}

pub(crate) fn forward(endpoints: &[Endpoint]) -> Action {
    Action::Forward {
        targets: vec![target(1, endpoints)],
        strip_prefix: false,
        hold: Duration::ZERO,
    }
}

pub(crate) fn target(weight: u32, endpoints: &[Endpoint]) -> Target {
    Target {
        weight,
        endpoints: endpoints.to_vec(),
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[derive(Debug)]
pub(crate) struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the log's times are compared with nothing"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }
}
