use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tappaas_core::backend::{Action, Frontend, Route, RouteId};

use super::{RouteStats, Seat};
use crate::table::{Door, doors};

/// A table compiled for look-ups. Immutable: a change makes another one.
#[derive(Debug, Default)]
pub(crate) struct Router {
    pub(crate) generation: u64,
    pub(crate) routes: BTreeMap<RouteId, Arc<RouteState>>,
    exact: HashMap<Box<str>, Vec<Entry>>,
    /// By what follows the `*.`.
    wildcard: HashMap<Box<str>, Vec<Entry>>,
    pub(crate) inner: HashMap<SocketAddr, Arc<RouteState>>,
}

#[derive(Debug)]
struct Entry {
    /// Without a final `/`.
    prefix: Box<str>,
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
    pub(crate) fn new(generation: u64, routes: Vec<Arc<RouteState>>) -> Self {
        let mut router = Self {
            generation,
            ..Self::default()
        };
        for route in routes {
            for door in doors(&route.route) {
                let route = Arc::clone(&route);
                match door {
                    Door::Inner(address) => {
                        router.inner.insert(address, route);
                    }
                    Door::Http(host, prefix) => {
                        let entries = match host.strip_prefix("*.") {
                            Some(rest) => router.wildcard.entry(rest.into()),
                            None => router.exact.entry(host.into()),
                        };
                        entries.or_default().push(Entry {
                            prefix: prefix.into(),
                            route,
                        });
                    }
                }
            }
            router.routes.insert(route.route.id.clone(), route);
        }
        for entries in router
            .exact
            .values_mut()
            .chain(router.wildcard.values_mut())
        {
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.prefix.len()));
        }
        router
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
            .flat_map(|(id, route)| route.seats().map(move |seat| (id, seat)))
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
    fn a_star_is_exactly_one_label_and_never_behind_a_written_host() {
        assert_eq!(found("c.example", "/"), "any");
        assert_eq!(found("d.c.example", "/"), "no host");
        assert_eq!(found("example", "/"), "no host");
        assert_eq!(found("b.example", "/other"), "no path");
    }
}
