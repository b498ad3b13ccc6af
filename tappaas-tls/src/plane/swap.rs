use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use arc_swap::ArcSwap;
use tappaas_core::{
    Error, Result,
    backend::{Action, Draining, Endpoint, Route, RouteId, RouteStatus},
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{RouteState, RouteStats, Router, Seat};
use crate::{routes::Change, table::Table, upstream::Upstream};

/// The routing state of an edge. Requests read it without a lock; swaps are serialised.
#[derive(Debug)]
pub(crate) struct Plane {
    router: ArcSwap<Router>,
    writer: Mutex<Writer>,
    generation: watch::Sender<u64>,
    started: Instant,
    /// Woken when a request begins to wait for an endpoint.
    pub(crate) demand: Notify,
}

#[derive(Debug, Default)]
struct Writer {
    /// Seats taken out of the table that may still have something in flight.
    leaving: Vec<(RouteId, Arc<Seat>)>,
    upstreams: HashMap<Endpoint, Weak<Upstream>>,
}

impl Plane {
    pub(crate) fn new() -> Self {
        Self {
            router: ArcSwap::default(),
            writer: Mutex::default(),
            generation: watch::channel(0).0,
            started: Instant::now(),
            demand: Notify::new(),
        }
    }

    /// The newest table, for a look-up that ends before the next `await`.
    pub(crate) fn router(&self) -> arc_swap::Guard<Arc<Router>> {
        self.router.load()
    }

    /// Tells of each new table.
    pub(crate) fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Milliseconds since this edge started: the time base of [`Health`](super::Health).
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Makes `table` the one that every new request sees. Once this returns, nothing new goes to a seat that it does not name.
    ///
    /// # Errors
    /// `Conflict` if a newer table was taken, and what [`Table::check`] refuses.
    pub(crate) fn swap(&self, table: Table) -> Result<()> {
        table.check()?;
        let mut writer = self.writer();
        let old = self.router.load_full();
        if table.generation < old.generation {
            return Err(Error::conflict(format!(
                "table generation {}: generation {} is in use",
                table.generation, old.generation
            )));
        }
        let routes = table.routes.into_iter();
        let routes = routes.map(|route| writer.compile(&old, route));
        let new = Router::new(table.generation, routes);
        self.publish(&mut writer, &old, new);
        Ok(())
    }

    /// Makes a [checked](crate::routes::Routes::check) change, as [`Self::swap`] does a whole table.
    pub(crate) fn change(&self, change: &Change) {
        let mut writer = self.writer();
        let old = self.router.load_full();
        let mut new = Router::clone(&old);
        new.generation = change.to;
        for id in &change.gone {
            new.remove(id);
        }
        for route in &change.put {
            new.put(writer.compile(&old, route.clone()));
        }
        self.publish(&mut writer, &old, new);
    }

    fn publish(&self, writer: &mut Writer, old: &Router, new: Router) {
        let new = Arc::new(new);
        self.router.store(Arc::clone(&new));
        writer.retire(old, &new);
        self.generation.send_replace(new.generation);
    }

    /// Says how a route is: what new requests see, and what is still on its way out.
    pub(crate) fn observe(&self, id: &RouteId) -> Option<RouteStatus> {
        let mut writer = self.writer();
        writer.forget_drained();
        let router = self.router.load();
        let route = router.routes.get(id)?;
        Some(RouteStatus {
            generation: route.route.generation,
            route: route.route.clone(),
            pending: None,
            look_after: None,
            draining: writer
                .draining()
                .filter(|(of, _)| of == &id)
                .map(|(_, draining)| draining)
                .collect(),
        })
    }

    /// Everything on its way out, of routes that are gone as well.
    pub(crate) fn draining(&self) -> Vec<(RouteId, Draining)> {
        let mut writer = self.writer();
        writer.forget_drained();
        writer
            .draining()
            .map(|(id, draining)| (id.clone(), draining))
            .collect()
    }

    /// The upstreams in use, for upkeep.
    pub(crate) fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.writer()
            .upstreams
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic while it was held left no half-made state: the router is stored whole, the lists only grow.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Compiles a route, keeping what `old` or the leaving seats know of it: counters, seats, connections.
    fn compile(&mut self, old: &Router, route: Route) -> Arc<RouteState> {
        let last = old.routes.get(&route.id);
        if let Some(last) = last.filter(|last| last.route == route) {
            return Arc::clone(last);
        }
        let stats = last.map_or_else(Arc::<RouteStats>::default, |last| Arc::clone(&last.stats));
        let mut known: HashMap<&Endpoint, Arc<Seat>> = HashMap::new();
        for (id, seat) in &self.leaving {
            if *id == route.id {
                known.insert(seat.upstream().endpoint(), Arc::clone(seat));
            }
        }
        for seat in last.into_iter().flat_map(|last| last.seats()) {
            known.insert(seat.upstream().endpoint(), Arc::clone(seat));
        }
        let targets = match &route.action {
            Action::Forward { targets, .. } => &targets[..],
            Action::Redirect { .. } => &[],
        };
        let upstreams = &mut self.upstreams;
        let mut seat = |endpoint: &Endpoint| match known.get(endpoint) {
            Some(seat) => Arc::clone(seat),
            None => Seat::new(upstream(upstreams, endpoint)),
        };
        let seats: Vec<Vec<_>> = targets
            .iter()
            .map(|target| target.endpoints.iter().map(&mut seat).collect())
            .collect();
        for seat in seats.iter().flatten() {
            seat.upstream().open();
            seat.retire(false);
        }
        Arc::new(RouteState::new(route, stats, seats))
    }

    /// Closes the seats that `new` does not have, and remembers those with something in flight. A route that is the same in both keeps
    /// its seats, which are its own.
    fn retire(&mut self, old: &Router, new: &Router) {
        let changed = |other: &Router, id: &RouteId, route: &Arc<RouteState>| {
            let same = other.routes.get(id);
            same.is_none_or(|same| !Arc::ptr_eq(same, route))
        };
        let seats = |router: &Router, other: &Router| {
            let routes = router.routes.iter();
            let routes = routes.filter(|(id, route)| changed(other, id, route));
            let seats = routes.flat_map(|(id, route)| {
                let seats = route.seats().map(Arc::clone);
                seats
                    .map(move |seat| (RouteId::clone(id), seat))
                    .collect::<Vec<_>>()
            });
            seats.collect::<Vec<_>>()
        };
        let new_seats = seats(new, old);
        let kept: HashSet<_> = new_seats
            .iter()
            .map(|(_, seat)| Arc::as_ptr(seat))
            .collect();
        self.leaving
            .retain(|(_, seat)| !kept.contains(&Arc::as_ptr(seat)));
        for (id, seat) in seats(old, new) {
            if !kept.contains(&Arc::as_ptr(&seat)) {
                seat.retire(true);
                self.leaving.push((id, seat));
            }
        }
        if !self.leaving.is_empty() {
            self.close_unused(new);
        }
        self.forget_drained();
    }

    /// Closes the connections to endpoints that nothing goes to any more.
    fn close_unused(&self, new: &Router) {
        let live: HashSet<_> = new
            .seats()
            .map(|(_, seat)| Arc::as_ptr(seat.upstream()))
            .collect();
        for (_, seat) in &self.leaving {
            if !live.contains(&Arc::as_ptr(seat.upstream())) {
                seat.upstream().close();
            }
        }
    }

    /// A retired seat never gets anything again, so that 0 in flight is final.
    fn forget_drained(&mut self) {
        self.leaving.retain(|(_, seat)| seat.in_flight() > 0);
        self.upstreams
            .retain(|_, upstream| upstream.strong_count() > 0);
    }

    fn draining(&self) -> impl Iterator<Item = (&RouteId, Draining)> {
        self.leaving.iter().map(|(id, seat)| {
            let endpoint = seat.upstream().endpoint().clone();
            (
                id,
                Draining {
                    endpoint,
                    in_flight: seat.in_flight().max(1),
                },
            )
        })
    }
}

fn upstream(
    upstreams: &mut HashMap<Endpoint, Weak<Upstream>>,
    endpoint: &Endpoint,
) -> Arc<Upstream> {
    if let Some(upstream) = upstreams.get(endpoint).and_then(Weak::upgrade) {
        return upstream;
    }
    let upstream = Arc::new(Upstream::new(endpoint.clone()));
    upstreams.insert(endpoint.clone(), Arc::downgrade(&upstream));
    upstream
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{forward, route};

    const A: &str = "127.0.0.1:1";
    const B: &str = "127.0.0.1:2";

    fn table(generation: u64, endpoints: &[&str]) -> Table {
        let mut route = route("web", &["a.example"], "/", forward(endpoints));
        route.generation = generation;
        Table {
            generation,
            routes: vec![route],
        }
    }

    fn seat(plane: &Plane) -> Arc<Seat> {
        Arc::clone(plane.router().seats().next().unwrap().1)
    }

    fn draining(plane: &Plane) -> Vec<u64> {
        let id = plane.router().routes.keys().next().unwrap().clone();
        plane
            .observe(&id)
            .unwrap()
            .draining
            .iter()
            .map(|draining| draining.in_flight)
            .collect()
    }

    #[tokio::test]
    async fn a_seat_taken_out_takes_nothing_new_and_is_listed_until_empty() {
        let plane = Plane::new();
        plane.swap(table(1, &[A])).unwrap();
        let old = seat(&plane);
        let (first, second) = (old.take().unwrap(), old.take().unwrap());
        plane.swap(table(2, &[B])).unwrap();
        assert!(old.take().is_none());
        assert_eq!(draining(&plane), [2]);
        drop(first);
        assert_eq!(draining(&plane), [1]);
        drop(second);
        assert_eq!(draining(&plane), [0; 0]);
        assert!(seat(&plane).take().is_some());
    }

    #[tokio::test]
    async fn an_endpoint_that_comes_back_keeps_its_count() {
        let plane = Plane::new();
        plane.swap(table(1, &[A])).unwrap();
        let ticket = seat(&plane).take().unwrap();
        plane.swap(table(2, &[B])).unwrap();
        plane.swap(table(3, &[A])).unwrap();
        assert_eq!(draining(&plane), [0; 0]);
        assert_eq!(seat(&plane).in_flight(), 1);
        plane.swap(table(4, &[B])).unwrap();
        assert_eq!(draining(&plane), [1]);
        drop(ticket);
        assert_eq!(draining(&plane), [0; 0]);
    }

    #[tokio::test]
    async fn a_change_leaves_the_other_routes_as_they_are() {
        let plane = Plane::new();
        let kept = route("kept", &["kept.example"], "/", forward(&[A]));
        let mut both = table(1, &[A]);
        both.routes.push(kept.clone());
        plane.swap(both).unwrap();
        let before = Arc::clone(&plane.router().routes[&kept.id]);
        let old = table(1, &[A]).routes.remove(0);
        let new = route("new", &["new.example"], "/", forward(&[B]));
        plane.change(&Change {
            from: 1,
            to: 2,
            put: vec![new],
            gone: vec![old.id],
        });
        let router = plane.router();
        assert!(Arc::ptr_eq(&before, &router.routes[&kept.id]));
        assert!(matches!(
            router.find("new.example", "/"),
            super::super::Found::Route(_)
        ));
        assert!(matches!(
            router.find("a.example", "/"),
            super::super::Found::NoHost
        ));
        assert_eq!((router.generation, router.routes.len()), (2, 2));
    }

    #[tokio::test]
    async fn an_older_table_is_refused() {
        let plane = Plane::new();
        plane.swap(table(2, &[A])).unwrap();
        let refused = plane.swap(table(1, &[B])).unwrap_err();
        assert_eq!(refused.kind(), tappaas_core::ErrorKind::Conflict);
    }

    #[tokio::test]
    async fn an_unchanged_route_is_kept_as_it_is() {
        let plane = Plane::new();
        plane.swap(table(1, &[A])).unwrap();
        let before = Arc::clone(plane.router().routes.values().next().unwrap());
        let same = Table {
            generation: 2,
            ..table(1, &[A])
        };
        plane.swap(same).unwrap();
        assert!(Arc::ptr_eq(
            &before,
            plane.router().routes.values().next().unwrap()
        ));
    }
}
