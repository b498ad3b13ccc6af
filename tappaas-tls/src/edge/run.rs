use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tappaas_core::{
    Clock, Error, ErrorKind, Result,
    backend::{Draining, RouteId, RouteStatus},
};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::{interval, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    file,
    kept::{self, Kept},
};
use crate::{
    access_log::AccessLog,
    config::{EdgeConfig, ms},
    control::{Ask, Connection, Tell, Unbound},
    listen::{Door, Doors, Gate, Service},
    proxy::Context,
    routes::{Change, Routes},
    table::Table,
};

const UPKEEP_EVERY: Duration = Duration::from_secs(1);
const PREDECESSOR_LOOK_EVERY: Duration = Duration::from_millis(100);

/// A running edge. Dropping it closes everything at once; [`Edge::shut`] and [`Edge::drain`] end it gently.
#[derive(Debug)]
pub(crate) struct Edge {
    context: Arc<Context>,
    gate: Gate,
    listen: Vec<SocketAddr>,
    doors: Mutex<Doors>,
    /// Connections taken at addresses that are shut now.
    ending: Mutex<Vec<AbortOnDropHandle<()>>>,
    writing: Arc<AsyncMutex<Writing>>,
}

/// What one table change at a time touches.
#[derive(Debug)]
struct Writing {
    routes: Routes,
    kept: Kept,
    /// The edge that this one took over from, while connections are left there.
    predecessor: Option<Connection>,
}

/// What another edge handed over.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    pub(crate) table: Table,
    pub(crate) http: Vec<TcpListener>,
    pub(crate) inner: Vec<TcpListener>,
}

/// The table and the listening sockets, with no table change until this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) table: Table,
    pub(crate) doors: Vec<(Service, TcpListener)>,
    _writing: OwnedMutexGuard<Writing>,
}

impl Edge {
    /// Opens the listening addresses, those inherited excepted, and serves the last table known.
    ///
    /// # Errors
    /// `Unavailable` if an address is taken; `Internal` if the state directory cannot be used.
    pub(crate) async fn start(
        state: &Path,
        config: &EdgeConfig,
        clock: Arc<dyn Clock>,
        inherited: Option<Inherited>,
    ) -> Result<Arc<Self>> {
        let unusable = |error: io::Error| {
            Error::internal(format!("cannot use the directory {}", state.display()))
                .with_source(error)
        };
        file::make_directory(state).map_err(unusable)?;
        let log = config
            .access_log
            .as_ref()
            .map(|log| AccessLog::open(state.join("access.log"), log));
        let context = Arc::new(Context::new(
            config,
            log.transpose().map_err(unusable)?,
            clock,
        ));
        let gate = Gate::new(Arc::clone(&context));
        let inherited = inherited.unwrap_or_else(|| Inherited {
            table: kept::load(state),
            ..Inherited::default()
        });
        let mut routes = Routes::default();
        // Before the doors open: whoever comes in must find the routes.
        match Routes::of(inherited.table.clone()) {
            Ok(inherited_routes) => {
                routes = inherited_routes;
                context.plane.swap(inherited.table)?;
            }
            Err(error) => {
                tracing::warn!(error = %tappaas_core::Chain(&error), "the last table is refused; starting without routes");
            }
        }
        let mut doors = open(&config.listen, inherited.http, inherited.inner, &gate)?;
        for (address, error) in doors.open_inner(routes.inner(), &gate) {
            tracing::warn!(%address, %error, "an inner address cannot be opened yet");
        }
        let edge = Arc::new(Self {
            listen: doors.http.iter().map(|door| door.address).collect(),
            doors: Mutex::new(doors),
            ending: Mutex::default(),
            writing: Arc::new(AsyncMutex::new(Writing {
                routes,
                kept: Kept::new(state),
                predecessor: None,
            })),
            context,
            gate,
        });
        tokio::spawn(upkeep(Arc::downgrade(&edge)));
        Ok(edge)
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Where HTTP comes in, with the ports that were taken for 0.
    pub(crate) fn listen(&self) -> Vec<SocketAddr> {
        self.listen.clone()
    }

    pub(crate) async fn table(&self) -> Table {
        self.writing.lock().await.routes.table()
    }

    /// Replaces the table. Once this returns nothing new goes anywhere else, in the edge that this one took over from neither.
    ///
    /// # Errors
    /// `Conflict` if a newer table was taken; what [`Table::check`] refuses; `Unavailable` if the other edge had to be ended.
    pub(crate) async fn set_table(&self, table: Table) -> Result<Vec<Unbound>> {
        let routes = Routes::of(table)?;
        let mut writing = self.writing.lock().await;
        if routes.generation() < writing.routes.generation() {
            return Err(Error::conflict(format!(
                "table generation {}: generation {} is in use",
                routes.generation(),
                writing.routes.generation()
            )));
        }
        let table = routes.table();
        writing.tell_predecessor(&table).await?;
        writing.keep(table.clone()).await;
        self.context.plane.swap(table)?;
        writing.routes = routes;
        Ok(self.see_to_inner(&writing.routes))
    }

    /// Changes some routes of the table, as [`Self::set_table`] does all.
    ///
    /// # Errors
    /// What [`Routes::check`] refuses; `Unavailable` if the edge that this one took over from had to be ended.
    pub(crate) async fn change(&self, change: Change) -> Result<Vec<Unbound>> {
        let mut writing = self.writing.lock().await;
        writing.routes.check(&change)?;
        if writing.predecessor.is_some() {
            let next = writing.routes.after(&change);
            writing.tell_predecessor(&next).await?;
        }
        writing.keep_change(&change).await;
        self.context.plane.change(&change);
        writing.routes.make(change);
        Ok(self.see_to_inner(&writing.routes))
    }

    /// Says how a route is, counting what is left in the edge that this one took over from.
    ///
    /// # Errors
    /// `Unavailable` if that one does not answer.
    pub(crate) async fn observe(&self, id: &RouteId) -> Result<Option<RouteStatus>> {
        let mut writing = self.writing.lock().await;
        let Some(mut status) = self.context.plane.observe(id) else {
            return Ok(None);
        };
        for left in writing.left_in_predecessor(id).await? {
            match status
                .draining
                .iter_mut()
                .find(|draining| draining.endpoint == left.endpoint)
            {
                Some(draining) => draining.in_flight += left.in_flight,
                None => status.draining.push(left),
            }
        }
        Ok(Some(status))
    }

    /// Goes on accounting for the connections left in the edge that this one took over from.
    pub(crate) async fn succeed(&self, predecessor: Connection) {
        self.writing.lock().await.predecessor = Some(predecessor);
    }

    /// Holds the table still while another edge takes over.
    ///
    /// # Errors
    /// When a socket cannot be passed on.
    pub(crate) async fn freeze(&self) -> io::Result<Frozen> {
        let writing = Arc::clone(&self.writing).lock_owned().await;
        let doors = self.doors();
        let http = doors.http.iter().map(|door| (Service::Http, door));
        let inner = doors.inner.values().map(|door| (Service::Inner, door));
        let doors = http
            .chain(inner)
            .map(|(service, door)| Ok((service, door.listener().try_clone()?)))
            .collect::<io::Result<_>>()?;
        Ok(Frozen {
            table: writing.routes.table(),
            doors,
            _writing: writing,
        })
    }

    /// Takes no more connections, and tells those taken to end.
    pub(crate) fn shut(&self) {
        let doors = std::mem::take(&mut *self.doors());
        let http = doors.http.into_iter();
        self.ending()
            .extend(http.chain(doors.inner.into_values()).map(Door::shut));
        self.context.leave.now();
    }

    /// Waits until the connections taken have ended, here and in the edge before this one, which is accounted for through this one.
    /// Breaks those off that have not `within` this time.
    pub(crate) async fn drain(&self, within: Duration) {
        let ending = std::mem::take(&mut *self.ending());
        let ended = async {
            for connections in ending {
                // One that panicked has ended as well.
                let _ = connections.await;
            }
            while self
                .writing
                .lock()
                .await
                .predecessor
                .as_ref()
                .is_some_and(|predecessor| !predecessor.closed())
            {
                sleep(PREDECESSOR_LOOK_EVERY).await;
            }
        };
        if timeout(within, ended).await.is_err() {
            tracing::warn!("connections were broken off, as they did not end in time");
            if let Some(predecessor) = &self.writing.lock().await.predecessor {
                predecessor.kill();
            }
        }
    }

    /// Opens the inner addresses of these routes and shuts all others. Says which cannot be opened.
    fn see_to_inner(&self, routes: &Routes) -> Vec<Unbound> {
        let unbound = self.doors().open_inner(routes.inner(), &self.gate);
        let wanted: std::collections::HashSet<_> = routes.inner().collect();
        let shut = self.doors().shut_inner(|address| wanted.contains(address));
        self.ending().extend(shut);
        let unbound = unbound.into_iter().map(|(address, error)| Unbound {
            address,
            reason: error.to_string(),
        });
        unbound.collect()
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ending(&self) -> MutexGuard<'_, Vec<AbortOnDropHandle<()>>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn upkeep(&self) {
        for upstream in self.context.plane.upstreams() {
            upstream.sweep(ms(self.context.timeouts.pool_idle_ms));
        }
        self.ending()
            .retain(|connections| !connections.is_finished());
        // A table change opens them itself.
        if let Ok(writing) = self.writing.try_lock() {
            self.doors().open_inner(writing.routes.inner(), &self.gate);
        }
    }
}

impl Writing {
    /// What is not on the disk serves as well; it is only not there after a crash, and the server brings it again then.
    async fn keep(&mut self, table: Table) {
        self.on_disk(move |kept| kept.replace(&table).map(|()| true))
            .await;
    }

    async fn keep_change(&mut self, change: &Change) {
        let line = change.clone();
        if !self.on_disk(move |kept| kept.add(&line)).await {
            self.keep(self.routes.after(change)).await;
        }
    }

    async fn on_disk(
        &mut self,
        work: impl FnOnce(&mut Kept) -> io::Result<bool> + Send + 'static,
    ) -> bool {
        // If this is given up half-way, or fails, the next one begins with the whole table.
        let anew = self.kept.anew();
        let mut kept = std::mem::replace(&mut self.kept, anew);
        let work = move || work(&mut kept).map(|done| (kept, done));
        let worked = tokio::task::spawn_blocking(work).await;
        match worked.map_err(io::Error::other).flatten() {
            Ok((kept, done)) => {
                self.kept = kept;
                done
            }
            Err(error) => {
                tracing::warn!(%error, "the table was not saved");
                false
            }
        }
    }

    /// Has the predecessor serve the same table. One that is gone has nothing in flight.
    async fn tell_predecessor(&mut self, table: &Table) -> Result<()> {
        let Some(predecessor) = &mut self.predecessor else {
            return Ok(());
        };
        match predecessor.ask(&Ask::SetTable(table.clone())).await {
            Ok(_) => Ok(()),
            Err(error) => self.lose_predecessor(error),
        }
    }

    async fn left_in_predecessor(&mut self, id: &RouteId) -> Result<Vec<Draining>> {
        let Some(predecessor) = &mut self.predecessor else {
            return Ok(Vec::new());
        };
        match predecessor.ask(&Ask::Observe(id.clone())).await {
            Ok(Tell::Status(status)) => Ok(status.map_or_else(Vec::new, |status| status.draining)),
            Ok(other) => Err(crate::control::unexpected(&other)),
            Err(error) => self.lose_predecessor(error).map(|()| Vec::new()),
        }
    }

    /// An old edge that lives but does not answer is ended: what it still does could not be accounted for.
    fn lose_predecessor(&mut self, error: Error) -> Result<()> {
        let Some(predecessor) = self.predecessor.take() else {
            return Ok(());
        };
        if error.kind() == ErrorKind::Unavailable && predecessor.closed() {
            return Ok(());
        }
        tracing::warn!(error = %tappaas_core::Chain(&error), "the edge before this one does not answer and is ended");
        predecessor.kill();
        Err(error)
    }
}

fn open(
    listen: &[SocketAddr],
    http: Vec<TcpListener>,
    inner: Vec<TcpListener>,
    gate: &Gate,
) -> Result<Doors> {
    let mut inherited = http;
    let mut doors = Doors::default();
    for address in listen {
        let same = |listener: &TcpListener| {
            let local = listener.local_addr().ok();
            local.is_some_and(|local| {
                local == *address || (address.port() == 0 && local.ip() == address.ip())
            })
        };
        let door = match inherited.iter().position(same) {
            Some(index) => Door::take(inherited.swap_remove(index), Service::Http, gate),
            None => Door::open(*address, Service::Http, gate),
        };
        let message =
            || format!("cannot listen on {address}: choose another address, or stop what uses it");
        doors
            .http
            .push(door.map_err(|error| Error::unavailable(message()).with_source(error))?);
    }
    for listener in inner {
        let door = Door::take(listener, Service::Inner, gate);
        let door = door.map_err(|error| {
            Error::internal("an inherited socket is of no use").with_source(error)
        })?;
        doors.inner.insert(door.address, door);
    }
    Ok(doors)
}

async fn upkeep(edge: Weak<Edge>) {
    let mut ticks = interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        match edge.upgrade() {
            Some(edge) => edge.upkeep().await,
            None => return,
        }
    }
}
