use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};

use super::{
    network::{Answer, Failure, Handler, Listening, Network},
    table::{Door, Step, Table},
};
use crate::{
    Clock, Error, Result,
    backend::{
        Action, Endpoint, IngressCapabilities, IngressProvider, Route, RouteId, RouteStatus, Signal,
    },
};

/// How often signals are given.
const WINDOW: Duration = Duration::from_secs(1);

/// An ingress that requests from outside reach by [`Ingress::request`] instead of a socket, and those from inside on its [`Network`].
#[derive(Debug)]
pub struct Ingress(Arc<Edge>);

#[derive(Debug)]
struct Edge {
    clock: Arc<dyn Clock>,
    network: Network,
    table: Arc<Table>,
}

impl Ingress {
    /// Creates an ingress in front of a network.
    pub fn new(clock: Arc<dyn Clock>, network: &Network) -> Self {
        Self(Arc::new(Edge {
            clock,
            network: network.clone(),
            table: Arc::default(),
        }))
    }

    /// Sends a request from outside and waits for its answer. Status 502: the instance that had it did not answer it.
    pub async fn request(&self, host: &str, path: &str) -> Answer {
        let host = host.to_ascii_lowercase();
        self.0.serve(Door::Outside { host: &host }, path).await
    }

    /// Sends a request from inside, to the address that a route with [`Frontend::Inner`](crate::backend::Frontend::Inner) listens on.
    pub async fn request_inside(&self, listen: SocketAddr, path: &str) -> Answer {
        self.0.serve(Door::Inside { listen }, path).await
    }
}

impl Edge {
    /// Listens for requests from inside.
    fn listen(self: &Arc<Self>, address: SocketAddr) -> Result<Listening> {
        let edge = Arc::downgrade(self);
        let handler: Handler = Arc::new(move |path| {
            let edge = Weak::clone(&edge);
            Box::pin(async move {
                match edge.upgrade() {
                    Some(edge) => edge.serve(Door::Inside { listen: address }, &path).await,
                    None => Answer::new(502, "the ingress is gone"),
                }
            })
        });
        self.network.listen(address, handler)
    }

    async fn serve(&self, door: Door<'_>, path: &str) -> Answer {
        let begun = self.clock.now();
        let passed = || self.clock.now().duration_since(begun).unsigned_abs();
        let mut tried = HashSet::new();
        let mut changed = self.table.changed.subscribe();
        loop {
            changed.mark_unchanged();
            // As long as `_counted` lives, the request counts as in flight or waiting.
            let (step, id, _counted) = self.table.step(door, path, &tried);
            let answer = match step {
                Step::Answer(answer) => answer,
                Step::Hold(hold) => tokio::select! {
                    _ = changed.changed() => continue,
                    () = self.clock.sleep(hold.saturating_sub(passed())) => {
                        Answer::new(503, "no instance is ready")
                    }
                },
                Step::Send(address, path) => match self.network.request(address, &path).await {
                    Ok(answer) => answer,
                    Err(Failure::Reset) => Answer::new(502, "the instance did not answer"),
                    Err(Failure::Refused) => {
                        tried.insert(address);
                        continue;
                    }
                },
            };
            if let Some(id) = id {
                self.table.answered(&id, answer.status, passed());
            }
            return answer;
        }
    }
}

#[async_trait]
impl IngressProvider for Ingress {
    fn capabilities(&self) -> IngressCapabilities {
        IngressCapabilities {
            address_endpoints: true,
            dial_endpoints: false,
            service_endpoints: false,
            inner: true,
            atomic: true,
            one_label: true,
            splits: true,
            strips: true,
            redirects: IngressCapabilities::REDIRECTS.to_vec(),
            retries: true,
            holds: true,
            drains: true,
            signals: true,
        }
    }

    async fn apply(&self, route: &Route) -> Result<()> {
        if let Action::Forward { targets, .. } = &route.action {
            let mut endpoints = targets.iter().flat_map(|target| &target.endpoints);
            if !endpoints.all(|endpoint| matches!(endpoint, Endpoint::Address(_))) {
                return Err(Error::unsupported(format!(
                    "route {} has an endpoint that is no address",
                    route.id
                )));
            }
        }
        let edge = &self.0;
        edge.table.apply(route, |address| edge.listen(address))
    }

    async fn observe(&self, id: &RouteId) -> Result<Option<RouteStatus>> {
        Ok(self.0.table.observe(id))
    }

    async fn list(&self) -> Result<Vec<RouteId>> {
        Ok(self.0.table.list())
    }

    async fn remove(&self, id: &RouteId) -> Result<()> {
        self.0.table.remove(id);
        Ok(())
    }

    async fn watch(&self) -> Result<BoxStream<'static, Signal>> {
        let mut last = BTreeMap::new();
        self.0.table.signals(&mut last, WINDOW);
        let state = (
            Arc::clone(&self.0.clock),
            Arc::downgrade(&self.0.table),
            last,
            VecDeque::new(),
        );
        let signals = stream::unfold(state, |(clock, table, mut last, mut queue)| async move {
            while queue.is_empty() {
                clock.sleep(WINDOW).await;
                queue.extend(table.upgrade()?.signals(&mut last, WINDOW));
            }
            let signal = queue.pop_front()?;
            Some((signal, (clock, table, last, queue)))
        });
        Ok(signals.boxed())
    }
}
