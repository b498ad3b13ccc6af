use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tappaas_core::backend::{Action, Frontend, Route, RouteId};

use super::{RouteStats, Seat};
use crate::table::{Door, doors};

/// A table compiled for look-ups. One in use is never changed: a clone is, which shares with it all that stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Router {
    pub(crate) generation: u64,
    pub(crate) routes: BTreeMap<Arc<RouteId>, Arc<RouteState>>,
    exact: Hosts,
    /// By what follows the `*.`.
    wildcard: Hosts,
    pub(crate) inner: HashMap<SocketAddr, Arc<RouteState>>,
}

/// The routes of each host, the longest prefix first.
type Hosts = HashMap<Arc<str>, Arc<[Entry]>>;

#[derive(Clone, Debug)]
struct Entry {
    /// Without a final `/`.
    prefix: Arc<str>,
    route: Arc<RouteState>,
}

/// A route as requests use it.
#[derive(Debug)]
pub(crate) struct RouteState {
    pub(crate) route: Route,
    /// The route's id as text, for logs and metrics.
    pub(crate) label: Box<str>,
    pub(crate) handling: Handling,
    pub(crate) stats: Arc<RouteStats>,
}

#[derive(Debug)]
pub(crate) enum Handling {
    Forward(Forward),
    Redirect(Redirect),
}

#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) targets: Vec<Target>,
    /// The bytes of path taken off before forwarding.
    pub(crate) strip: usize,
    pub(crate) hold: Duration,
}

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) weight: u64,
    pub(crate) seats: Vec<Arc<Seat>>,
}

#[derive(Debug)]
pub(crate) struct Redirect {
    /// Without a final `/`.
    pub(crate) to: Box<str>,
    pub(crate) status: u16,
    /// The bytes of path that `to` stands for.
    pub(crate) prefix: usize,
}

impl Router {
    pub(crate) fn new(generation: u64, routes: impl IntoIterator<Item = Arc<RouteState>>) -> Self {
        let mut router = Self {
            generation,
            ..Self::default()
        };
        for route in routes {
            router.put(route);
        }
        router
    }

    /// Adds a route, in place of the one of the same id.
    pub(crate) fn put(&mut self, route: Arc<RouteState>) {
        self.remove(&route.route.id);
        for door in doors(&route.route) {
            let added = Arc::clone(&route);
            match door {
                Door::Inner(address) => drop(self.inner.insert(address, added)),
                Door::Http(host, prefix) => {
                    let (hosts, host) = self.hosts(host);
                    let mut entries = hosts.get(host).map_or_else(Vec::new, |old| old.to_vec());
                    entries.push(Entry {
                        prefix: prefix.into(),
                        route: added,
                    });
                    entries.sort_by_key(|entry| std::cmp::Reverse(entry.prefix.len()));
                    hosts.insert(host.into(), entries.into());
                }
            }
        }
        self.routes.insert(Arc::new(route.route.id.clone()), route);
    }

    pub(crate) fn remove(&mut self, id: &RouteId) {
        let Some(route) = self.routes.remove(id) else {
            return;
        };
        for door in doors(&route.route) {
            match door {
                Door::Inner(address) => drop(self.inner.remove(&address)),
                Door::Http(host, _) => {
                    let (hosts, host) = self.hosts(host);
                    let others = hosts.remove(host);
                    let others = others.iter().flat_map(|entries| entries.iter());
                    let others = others.filter(|entry| !Arc::ptr_eq(&entry.route, &route));
                    let others: Arc<[_]> = others.cloned().collect();
                    if !others.is_empty() {
                        hosts.insert(host.into(), others);
                    }
                }
            }
        }
    }

    /// Where a host is looked up, and as what.
    fn hosts<'a>(&mut self, host: &'a str) -> (&mut Hosts, &'a str) {
        match host.strip_prefix("*.") {
            Some(rest) => (&mut self.wildcard, rest),
            None => (&mut self.exact, host),
        }
    }

    /// Finds the route of a request: the host as written before the one with a `*`, then the longest prefix of whole segments.
    ///
    /// A host that is written out hides the one with a `*` whole: paths that it does not serve are nobody else's.
    pub(crate) fn find(&self, host: &str, path: &str) -> Found<'_> {
        let wildcard = || self.wildcard.get(host.split_once('.')?.1);
        let Some(entries) = self.exact.get(host).or_else(wildcard) else {
            return Found::NoHost;
        };
        let within = |entry: &&Entry| match path.strip_prefix(&*entry.prefix) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        entries
            .iter()
            .find(within)
            .map_or(Found::NoPath, |entry| Found::Route(&entry.route))
    }

    pub(crate) fn seats(&self) -> impl Iterator<Item = (&RouteId, &Arc<Seat>)> {
        self.routes
            .iter()
            .flat_map(|(id, route)| route.seats().map(move |seat| (&**id, seat)))
    }
}

/// What a look-up found.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    NoHost,
    NoPath,
    Route(&'a Arc<RouteState>),
}

impl RouteState {
    pub(crate) fn new(route: Route, stats: Arc<RouteStats>, seats: Vec<Vec<Arc<Seat>>>) -> Self {
        let prefix = match &route.frontend {
            Frontend::Http { path, .. } => path.trim_end_matches('/').len(),
            Frontend::Inner { .. } => 0,
        };
        let handling = match &route.action {
            Action::Forward {
                targets,
                strip_prefix,
                hold,
            } => Handling::Forward(Forward {
                targets: targets
                    .iter()
                    .zip(seats)
                    .map(|(target, seats)| Target {
                        weight: target.weight.into(),
                        seats,
                    })
                    .collect(),
                strip: if *strip_prefix { prefix } else { 0 },
                hold: *hold,
            }),
            Action::Redirect { to, status } => Handling::Redirect(Redirect {
                to: to.trim_end_matches('/').into(),
                status: *status,
                prefix,
            }),
        };
        Self {
            label: route.id.to_string().into(),
            route,
            handling,
            stats,
        }
    }

    pub(crate) fn seats(&self) -> impl Iterator<Item = &Arc<Seat>> {
        let targets = match &self.handling {
            Handling::Forward(forward) => &forward.targets[..],
            Handling::Redirect(_) => &[],
        };
        targets.iter().flat_map(|target| &target.seats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{redirect, route};

    fn router() -> Router {
        let state = |name: &str, host: &str, path: &str| {
            let route = route(name, &[host], path, redirect("/", 301));
            Arc::new(RouteState::new(route, Arc::default(), Vec::new()))
        };
        Router::new(
            1,
            vec![
                state("root", "a.example", "/"),
                state("api", "a.example", "/api"),
                state("v2", "a.example", "/api/v2/"),
                state("any", "*.example", "/"),
                state("deep", "b.example", "/only"),
            ],
        )
    }

    fn found(host: &str, path: &str) -> String {
        match router().find(host, path) {
            Found::Route(route) => route.route.id.name.to_string(),
            Found::NoHost => "no host".to_owned(),
            Found::NoPath => "no path".to_owned(),
        }
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        for (path, name) in [
            ("/", "root"),
            ("/apis", "root"),
            ("/api../x", "root"),
            ("/api", "api"),
            ("/api/", "api"),
            ("/api/v20", "api"),
            ("/api/v2", "v2"),
            ("/api/v2/x", "v2"),
        ] {
            assert_eq!(found("a.example", path), name, "{path}");
        }
    }

    #[test]
    fn routes_that_go_or_change_leave_those_beside_them() {
        let mut router = router();
        let state = |name: &str, host: &str, path: &str| {
            let route = route(name, &[host], path, redirect("/", 301));
            Arc::new(RouteState::new(route, Arc::default(), Vec::new()))
        };
        let before = router.clone();
        router.remove(&state("api", "a.example", "/api").route.id);
        router.put(state("any", "*.other", "/"));
        let name = |router: &Router, host, path| match router.find(host, path) {
            Found::Route(route) => route.route.id.name.to_string(),
            Found::NoHost => "no host".to_owned(),
            Found::NoPath => "no path".to_owned(),
        };
        assert_eq!(name(&router, "a.example", "/api"), "root");
        assert_eq!(name(&router, "a.example", "/api/v2"), "v2");
        assert_eq!(name(&router, "c.example", "/"), "no host");
        assert_eq!(name(&router, "c.other", "/"), "any");
        assert_eq!(name(&before, "a.example", "/api"), "api");
        assert_eq!(name(&before, "c.example", "/"), "any");
    }

    #[test]
    fn a_star_is_exactly_one_label_and_never_behind_a_written_host() {
        assert_eq!(found("c.example", "/"), "any");
        assert_eq!(found("d.c.example", "/"), "no host");
        assert_eq!(found("example", "/"), "no host");
        assert_eq!(found("b.example", "/other"), "no path");
    }
}
