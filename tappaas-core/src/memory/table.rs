use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    lock::lock,
    network::{Answer, Listening},
    routing,
};
use crate::{
    Error, Result,
    backend::{Action, Draining, Endpoint, Frontend, Route, RouteId, RouteStatus, Signal},
};

/// So many latencies of a route are kept.
const LATENCIES_MAX: usize = 1000;

/// Every route, and what is going on behind it.
#[derive(Debug, Default)]
pub(super) struct Table {
    state: Mutex<State>,
    /// Counts the changes of routes.
    pub(super) changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    routes: BTreeMap<RouteId, Kept>,
    counts: HashMap<Counter, u64>,
}

#[derive(Debug)]
struct Kept {
    route: Route,
    /// Where requests from inside come in.
    listening: Option<Listening>,
    /// What each target is owed.
    credits: Vec<i64>,
    turn: usize,
    traffic: Traffic,
}

/// What a route answered since it was made.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    requests: u64,
    errors: u64,
    /// Of the newest answers.
    latencies: VecDeque<Duration>,
}

/// Where a request comes in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Door<'a> {
    Outside { host: &'a str },
    Inside { listen: SocketAddr },
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Step {
    Answer(Answer),
    /// It goes to this address with this path.
    Send(SocketAddr, String),
    /// There is no endpoint: it waits, at most so long since it came in.
    Hold(Duration),
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Counter {
    InFlight(RouteId, Endpoint),
    Waiting(RouteId),
}

/// A request that is counted as long as this lives.
#[derive(Debug)]
pub(super) struct Counted {
    table: Arc<Table>,
    counter: Counter,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counts = &mut lock(&self.table.state).counts;
        if let Some(count) = counts.get_mut(&self.counter) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.counter);
            }
        }
    }
}

impl Table {
    /// Takes a route. `listen` is called where the route has to listen for requests from inside.
    pub(super) fn apply(
        &self,
        route: &Route,
        listen: impl FnOnce(SocketAddr) -> Result<Listening>,
    ) -> Result<()> {
        let mut state = lock(&self.state);
        let taken = state.routes.values().any(|kept| {
            kept.route.id != route.id && routing::collide(&kept.route.frontend, &route.frontend)
        });
        if taken {
            return Err(Error::already_exists(format!(
                "a host and path of route {} is taken by another route",
                route.id
            )));
        }
        let last = state.routes.get(&route.id);
        if let Some(last) = last
            && !route.supersedes(&last.route)?
        {
            return Ok(());
        }
        let same_frontend = last.is_some_and(|last| last.route.frontend == route.frontend);
        let listening = match route.frontend {
            Frontend::Inner { listen: address } if !same_frontend => Some(listen(address)?),
            Frontend::Inner { .. } | Frontend::Http { .. } => None,
        };
        match state.routes.get_mut(&route.id) {
            Some(kept) => {
                kept.route = route.clone();
                if !same_frontend
                    && let Some(old) = std::mem::replace(&mut kept.listening, listening)
                {
                    old.finish();
                }
            }
            None => {
                let kept = Kept {
                    route: route.clone(),
                    listening,
                    credits: Vec::new(),
                    turn: 0,
                    traffic: Traffic::default(),
                };
                state.routes.insert(route.id.clone(), kept);
            }
        }
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    pub(super) fn remove(&self, id: &RouteId) {
        let kept = lock(&self.state).routes.remove(id);
        if let Some(listening) = kept.and_then(|kept| kept.listening) {
            listening.finish();
        }
        self.changed.send_modify(|changes| *changes += 1);
    }

    pub(super) fn list(&self) -> Vec<RouteId> {
        lock(&self.state).routes.keys().cloned().collect()
    }

    pub(super) fn observe(&self, id: &RouteId) -> Option<RouteStatus> {
        let state = lock(&self.state);
        let route = state.routes.get(id)?.route.clone();
        let counts = state.counts.iter();
        let draining = counts.filter_map(|(counter, count)| match counter {
            Counter::InFlight(of, endpoint) if of == id && !routing::names(&route, endpoint) => {
                Some(Draining {
                    endpoint: endpoint.clone(),
                    in_flight: *count,
                })
            }
            Counter::InFlight(..) | Counter::Waiting(_) => None,
        });
        let mut draining: Vec<_> = draining.collect();
        draining.sort_by(|one, other| one.endpoint.cmp(&other.endpoint));
        Some(RouteStatus {
            generation: route.generation,
            route,
            pending: None,
            look_after: None,
            draining,
        })
    }

    /// Decides about a request and counts it where it goes, in one go: it sees the table before a change or after it.
    pub(super) fn step(
        self: &Arc<Self>,
        door: Door<'_>,
        path: &str,
        tried: &HashSet<SocketAddr>,
    ) -> (Step, Option<RouteId>, Option<Counted>) {
        let mut state = lock(&self.state);
        let Some(kept) = state.find(door, path) else {
            let nowhere = Answer::new(404, "no such host or path");
            return (Step::Answer(nowhere), None, None);
        };
        let id = kept.route.id.clone();
        let step = kept.step(path, tried);
        let counter = match &step {
            Step::Answer(_) => None,
            Step::Send(to, _) => Some(Counter::InFlight(id.clone(), Endpoint::Address(*to))),
            Step::Hold(_) => Some(Counter::Waiting(id.clone())),
        };
        let counted = counter.map(|counter| {
            *state.counts.entry(counter.clone()).or_default() += 1;
            Counted {
                table: Arc::clone(self),
                counter,
            }
        });
        (step, Some(id), counted)
    }

    pub(super) fn answered(&self, id: &RouteId, status: u16, latency: Duration) {
        let mut state = lock(&self.state);
        let Some(kept) = state.routes.get_mut(id) else {
            return;
        };
        kept.traffic.requests += 1;
        kept.traffic.errors += u64::from((500..600).contains(&status));
        if kept.traffic.latencies.len() == LATENCIES_MAX {
            kept.traffic.latencies.pop_front();
        }
        kept.traffic.latencies.push_back(latency);
    }

    /// What each route with traffic did since `last`, which becomes what it did until now.
    pub(super) fn signals(
        &self,
        last: &mut BTreeMap<RouteId, Traffic>,
        window: Duration,
    ) -> Vec<Signal> {
        let state = lock(&self.state);
        let signals = state.routes.iter().map(|(id, kept)| {
            let before = last.get(id).cloned().unwrap_or_default();
            state.signal(id, &kept.traffic, &before, window)
        });
        let signals: Vec<_> = signals
            .filter(|signal| signal.requests + signal.in_flight + signal.waiting > 0)
            .collect();
        *last = state
            .routes
            .iter()
            .map(|(id, kept)| (id.clone(), kept.traffic.clone()))
            .collect();
        signals
    }
}

impl State {
    fn find(&mut self, door: Door<'_>, path: &str) -> Option<&mut Kept> {
        let mut routes = self.routes.values().map(|kept| &kept.route);
        let route = match door {
            Door::Outside { host } => routing::matching(routes, host, path)?,
            Door::Inside { listen } => {
                routes.find(|route| route.frontend == Frontend::Inner { listen })?
            }
        };
        let id = route.id.clone();
        self.routes.get_mut(&id)
    }

    fn signal(&self, id: &RouteId, now: &Traffic, before: &Traffic, window: Duration) -> Signal {
        let requests = now.requests.saturating_sub(before.requests);
        let newest = now
            .latencies
            .len()
            .saturating_sub(usize::try_from(requests).unwrap_or(usize::MAX));
        let mut latencies: Vec<_> = now.latencies.range(newest..).copied().collect();
        latencies.sort();
        let quantile = |percent: usize| {
            let rank = (latencies.len() * percent).div_ceil(100).saturating_sub(1);
            latencies.get(rank).copied().unwrap_or_default()
        };
        let count = |wanted: fn(&Counter) -> Option<&RouteId>| {
            let counts = self
                .counts
                .iter()
                .filter(|(counter, _)| wanted(counter) == Some(id));
            counts.map(|(_, count)| count).sum()
        };
        Signal {
            id: id.clone(),
            window,
            requests,
            errors: now.errors.saturating_sub(before.errors),
            latency_p50: quantile(50),
            latency_p99: quantile(99),
            in_flight: count(|counter| match counter {
                Counter::InFlight(id, _) => Some(id),
                Counter::Waiting(_) => None,
            }),
            waiting: count(|counter| match counter {
                Counter::InFlight(..) => None,
                Counter::Waiting(id) => Some(id),
            }),
        }
    }
}

impl Kept {
    fn step(&mut self, path: &str, tried: &HashSet<SocketAddr>) -> Step {
        let prefix = match &self.route.frontend {
            Frontend::Http { path, .. } => path.as_str(),
            Frontend::Inner { .. } => "",
        };
        let rest = routing::strip(prefix, path);
        let (targets, strip_prefix, hold) = match &self.route.action {
            Action::Forward {
                targets,
                strip_prefix,
                hold,
            } => (targets, *strip_prefix, *hold),
            Action::Redirect { to, status } => {
                let to = format!("{}{rest}", to.trim_end_matches('/'));
                return Step::Answer(Answer::new(*status, to));
            }
        };
        let Some(target) = routing::next(targets, &mut self.credits) else {
            return Step::Hold(hold);
        };
        self.turn = self.turn.wrapping_add(1);
        let count = target.endpoints.len();
        let mut turns = (0..count).map(|i| &target.endpoints[(self.turn % count + i) % count]);
        let untried = turns.find_map(|endpoint| match endpoint {
            Endpoint::Address(address) if !tried.contains(address) => Some(*address),
            _ => None,
        });
        match untried {
            Some(address) => Step::Send(address, if strip_prefix { rest } else { path.to_owned() }),
            None => Step::Answer(Answer::new(502, "no instance takes connections")),
        }
    }
}
