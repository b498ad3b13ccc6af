use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use tappaas_core::{
    Chain, Clock, Error, ErrorKind, Result,
    backend::{
        Frontend, IngressCapabilities, IngressProvider, Route, RouteId, RouteStatus, Signal,
    },
};
use tokio::{
    sync::{Mutex as AsyncMutex, broadcast},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    desired::Desired,
    driver::{Driver, WINDOW, sample},
    supervisor::Supervisor,
};
use crate::{
    config::{IngressConfig, Place},
    control::{Ask, Tell, Unbound},
    edge::Edge,
    routes::Change,
};

/// Signals that a slow listener may fall behind before it misses some.
const SIGNALS_KEPT: usize = 4_096;
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The ingress provider of one machine: an edge, and the routes it serves.
///
/// With [`Place::Process`] the edge outlives this value and the process it is in; the next one finds it with its routes.
/// With [`Place::InProcess`] it ends with this value.
#[derive(Debug)]
pub struct Ingress {
    inner: Arc<Inner>,
    signals: broadcast::Sender<Signal>,
    watcher: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Inner {
    driver: Driver,
    desired: Mutex<Desired>,
    pushed: AsyncMutex<Pushed>,
}

/// What the edge was last told.
#[derive(Debug)]
struct Pushed {
    /// `None` if it is not known what of it the edge took.
    generation: Option<u64>,
    unbound: Vec<Unbound>,
}

impl Ingress {
    /// Starts an edge, or adopts the one that runs in `config.state`.
    ///
    /// # Errors
    /// `Unavailable` if an address is taken or the helper cannot be started; `Internal` if the state directory cannot be used.
    pub async fn start(config: IngressConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let driver = match config.place {
            Place::InProcess => {
                Driver::InProcess(Edge::start(&config.state, &config.edge, clock, None).await?)
            }
            Place::Process { helper } => {
                Driver::Process(Arc::new(Supervisor::new(config.state, helper, config.edge)))
            }
        };
        // Before the table: an edge that is replaced in between is then seen as another one, and told the routes.
        let pid = driver.pid().await?;
        let desired = Desired::adopt(driver.table().await?)?;
        let pushed = Pushed {
            generation: Some(desired.generation()),
            unbound: Vec::new(),
        };
        let signals = broadcast::channel(SIGNALS_KEPT).0;
        let inner = Arc::new(Inner {
            driver,
            desired: Mutex::new(desired),
            pushed: AsyncMutex::new(pushed),
        });
        let watcher = match &inner.driver {
            Driver::InProcess(edge) => tokio::spawn(sample(Arc::clone(edge), signals.clone())),
            Driver::Process(supervisor) => tokio::spawn(watch(
                Arc::clone(&inner),
                Arc::clone(supervisor),
                signals.clone(),
                pid,
            )),
        };
        Ok(Self {
            inner,
            signals,
            watcher: AbortOnDropHandle::new(watcher),
        })
    }

    /// Where HTTP comes in, with the ports that were taken for 0.
    ///
    /// # Errors
    /// `Unavailable` if the edge does not answer.
    pub async fn listen(&self) -> Result<Vec<SocketAddr>> {
        self.inner.driver.listen().await
    }

    /// The edge's process id; in-process, this one's.
    ///
    /// # Errors
    /// `Unavailable` if the edge does not answer.
    pub async fn pid(&self) -> Result<u32> {
        self.inner.driver.pid().await
    }

    /// The edge's figures in Prometheus's text format.
    ///
    /// # Errors
    /// `Unavailable` if the edge does not answer.
    pub async fn metrics(&self) -> Result<String> {
        self.inner.driver.metrics().await
    }

    /// Ends the edge: it takes no more connections, lets those there are finish for `drain`, and then breaks them off.
    ///
    /// Dropping an [`Ingress`] leaves an edge in a process of its own running.
    ///
    /// # Errors
    /// `Unavailable` if it does not go.
    pub async fn stop(&self, drain: Duration) -> Result<()> {
        self.watcher.abort();
        self.inner.driver.stop(drain).await
    }
}

#[async_trait]
impl IngressProvider for Ingress {
    fn capabilities(&self) -> IngressCapabilities {
        IngressCapabilities {
            address_endpoints: true,
            dial_endpoints: true,
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
        self.inner.desired().apply(route)?;
        let address = match &route.frontend {
            Frontend::Inner { listen } => Some(*listen),
            Frontend::Http { .. } => None,
        };
        let unbound = self.inner.push(address).await?;
        let failed = unbound
            .into_iter()
            .find(|unbound| Some(unbound.address) == address);
        failed.map_or(Ok(()), |unbound| {
            Err(Error::unavailable(format!(
                "cannot listen on {}: {}",
                unbound.address, unbound.reason
            )))
        })
    }

    async fn observe(&self, id: &RouteId) -> Result<Option<RouteStatus>> {
        self.inner.driver.observe(id).await
    }

    async fn list(&self) -> Result<Vec<RouteId>> {
        Ok(self.inner.desired().ids())
    }

    async fn remove(&self, id: &RouteId) -> Result<()> {
        self.inner.desired().remove(id)?;
        self.inner.push(None).await.map(drop)
    }

    async fn watch(&self) -> Result<BoxStream<'static, Signal>> {
        let signals = self.signals.subscribe();
        let next = |mut signals: broadcast::Receiver<Signal>| async move {
            loop {
                match signals.recv().await {
                    Ok(signal) => return Some((signal, signals)),
                    // Signals are about windows that are over: those missed are not missed by anyone who looks at the next.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        };
        Ok(stream::unfold(signals, next).boxed())
    }
}

impl Inner {
    fn desired(&self) -> MutexGuard<'_, Desired> {
        // Its changes are single insertions, so that a panic leaves nothing half done.
        self.desired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the edge up to what is desired now. Changes that come while one is on its way go together with the next.
    ///
    /// `again` has the edge told even if it knows, when this address could not be opened the last time.
    async fn push(&self, again: Option<SocketAddr>) -> Result<Vec<Unbound>> {
        let wanted = self.desired().generation();
        let mut pushed = self.pushed.lock().await;
        let failed = pushed
            .unbound
            .iter()
            .any(|unbound| Some(unbound.address) == again);
        let known = pushed.generation.filter(|_| !failed);
        match known.and_then(|known| self.desired().since(known)) {
            Some(_) if known >= Some(wanted) => {}
            Some(change) => self.push_change(&mut pushed, change).await?,
            None => self.push_all(&mut pushed).await?,
        }
        Ok(pushed.unbound.clone())
    }

    async fn push_change(&self, pushed: &mut Pushed, change: Change) -> Result<()> {
        let generation = change.to;
        pushed.generation = None;
        match self.driver.change(change).await {
            Ok(unbound) => self.was_told(pushed, generation, unbound),
            // It has another table than it was told: it was started again, or was told twice.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                return self.push_all(pushed).await;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn push_all(&self, pushed: &mut Pushed) -> Result<()> {
        let table = self.desired().table();
        let generation = table.generation;
        pushed.generation = None;
        let unbound = self.driver.set_table(table).await?;
        self.was_told(pushed, generation, unbound);
        Ok(())
    }

    fn was_told(&self, pushed: &mut Pushed, generation: u64, unbound: Vec<Unbound>) {
        self.desired().told(generation);
        *pushed = Pushed {
            generation: Some(generation),
            unbound,
        };
    }
}

/// Passes the signals of the edge on, and when it has gone brings up another one with the routes desired.
async fn watch(
    inner: Arc<Inner>,
    supervisor: Arc<Supervisor>,
    signals: broadcast::Sender<Signal>,
    mut pid: u32,
) {
    let mut pause = RETRY_MIN;
    loop {
        match follow(&inner, &supervisor, &signals, &mut pid).await {
            Ok(()) => pause = RETRY_MIN,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the edge is away; trying again");
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
        sleep(pause).await;
    }
}

/// Follows one edge to its end.
async fn follow(
    inner: &Inner,
    supervisor: &Supervisor,
    signals: &broadcast::Sender<Signal>,
    pid: &mut u32,
) -> Result<()> {
    let mut connection = supervisor.connect_apart().await?;
    let edge = connection.hello().await?.pid;
    // The first one was adopted with its table; another one has at best an older table.
    if *pid != edge {
        inner.push_all(&mut *inner.pushed.lock().await).await?;
        *pid = edge;
    }
    let window_ms = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
    let mut told = connection.ask(&Ask::Watch { window_ms }).await.map(Some)?;
    while let Some(Tell::Signals(batch)) = told {
        for signal in batch {
            // Without a listener there is nobody to miss it.
            let _ = signals.send(signal);
        }
        told = connection.next().await;
    }
    Ok(())
}
