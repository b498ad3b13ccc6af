use std::{sync::Arc, time::Duration};

use tappaas_core::{
    backend::{Action, Endpoint, Frontend, IngressProvider, Route, RouteId, RouteStatus, Target},
    model::Host,
};

use super::{Gate, IngressFixture, Server};
use crate::conformance::{Failure, Verdict, application_key, macros::ensure, name, until};

/// The host that most cases use.
pub(crate) const HOST: &str = "app.example.com";

/// A route under test: applies it, generation by generation.
#[derive(Debug)]
pub struct Scene<'a> {
    /// What the ingress is reached by.
    pub fixture: &'a dyn IngressFixture,
    /// The ingress.
    pub ingress: Arc<dyn IngressProvider>,
    /// The route: of host `app.example.com`, with all paths, to nobody.
    pub route: Route,
}

impl<'a> Scene<'a> {
    /// Prepares a route; nothing is applied yet.
    pub fn new(fixture: &'a dyn IngressFixture) -> Self {
        Self::of(fixture, "main", HOST, "/")
    }

    /// Prepares a route for a host and a path.
    pub fn of(fixture: &'a dyn IngressFixture, route: &str, host: &str, path: &str) -> Self {
        Self {
            fixture,
            ingress: fixture.ingress(),
            route: Route {
                id: RouteId {
                    application: application_key("app"),
                    name: name(route),
                },
                generation: 0,
                frontend: Frontend::Http {
                    hosts: vec![self::host(host)],
                    path: path.to_owned(),
                },
                action: forward(Vec::new()),
            },
        }
    }

    /// Starts a server that never holds a request.
    pub async fn serve(&self, name: &str) -> Result<Server, Failure> {
        let open = Gate::new();
        open.open();
        self.fixture.serve(name, &open).await
    }

    /// Applies the next generation, to these servers.
    pub async fn to(&mut self, servers: &[&Server]) -> Verdict {
        let endpoints = servers.iter().map(|server| server.endpoint.clone());
        self.forward(vec![target(1, endpoints.collect())]).await
    }

    /// Applies the next generation, to these targets.
    pub async fn forward(&mut self, targets: Vec<Target>) -> Verdict {
        self.act(forward(targets)).await
    }

    /// Applies the next generation, and waits until every new request sees it.
    pub async fn act(&mut self, action: Action) -> Verdict {
        self.route.action = action;
        self.route.generation += 1;
        self.ingress.apply(&self.route).await?;
        until("the new route is what every request sees", async || {
            let status = self.status().await?;
            Ok((status.generation == self.route.generation).then_some(()))
        })
        .await
    }

    /// How the route is, which must be there.
    pub async fn status(&self) -> Result<RouteStatus, Failure> {
        let status = self.ingress.observe(&self.route.id).await?;
        let status = status.ok_or_else(|| format!("route {} is not observed", self.route.id))?;
        let seen = status.generation == status.route.generation;
        ensure!(
            status.pending.is_none() == seen && (seen || status.generation == 0),
            "it says both that the route is seen and that it is not: {status:?}"
        );
        Ok(status)
    }

    /// Waits until nothing drains any more.
    pub async fn drained(&self) -> Verdict {
        until("nothing drains", async || {
            Ok(self.status().await?.draining.is_empty().then_some(()))
        })
        .await
    }

    /// Makes sure that a request to the usual host is answered so by some server.
    pub async fn answers(&self, path: &str, body: &str) -> Verdict {
        self.host_answers(HOST, path, body).await
    }

    /// Makes sure that a request to a host is answered so by some server.
    pub async fn host_answers(&self, host: &str, path: &str, body: &str) -> Verdict {
        let reply = self.fixture.request(host, path).await?;
        ensure!(
            (reply.status, reply.body.as_str()) == (200, body),
            "{host}{path}: expected `{body}`, got {reply:?}"
        );
        Ok(())
    }

    /// Makes sure that a request is answered with a status by the ingress itself.
    pub async fn refuses(&self, host: &str, path: &str, status: u16) -> Verdict {
        let reply = self.fixture.request(host, path).await?;
        ensure!(
            reply.status == status,
            "{host}{path}: expected {status}, got {reply:?}"
        );
        Ok(())
    }
}

/// Sends requests to targets; one that finds no endpoint is not held.
pub(crate) fn forward(targets: Vec<Target>) -> Action {
    Action::Forward {
        targets,
        strip_prefix: false,
        hold: Duration::ZERO,
    }
}

/// A target.
pub(crate) fn target(weight: u32, endpoints: Vec<Endpoint>) -> Target {
    Target { weight, endpoints }
}

/// A host known to be one.
pub(crate) fn host(host: &str) -> Host {
    host.parse().expect("suites use valid hosts")
}
