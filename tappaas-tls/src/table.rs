use std::{collections::HashSet, net::SocketAddr};

use serde::{Deserialize, Serialize};
use tappaas_core::{
    Error, Result,
    backend::{Action, Endpoint, Frontend, Route},
};

/// Every route of an edge. Replaced as a whole, never in part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Table {
    /// Raised at each replacement.
    pub(crate) generation: u64,
    pub(crate) routes: Vec<Route>,
}

/// The most routes of a table.
pub(crate) const ROUTES_MAX: usize = 100_000;
const HOSTS_MAX: usize = 100;
const TARGETS_MAX: usize = 16;
const ENDPOINTS_MAX: usize = 10_000;
const PATH_BYTES_MAX: usize = 1_024;

/// Refuses what one route must not be.
///
/// # Errors
/// `Invalid` or `Unsupported`, naming the route and the rule.
pub(crate) fn check(route: &Route) -> Result<()> {
    let invalid = |fault: &str| Err(Error::invalid(format!("route {}: {fault}", route.id)));
    match &route.frontend {
        Frontend::Http { hosts, path } => {
            if hosts.is_empty() || hosts.len() > HOSTS_MAX {
                return invalid("expected 1 to 100 hosts");
            }
            let canonical = crate::proxy::path::normalise(path).is_ok_and(|normal| normal == *path);
            if !canonical || path.len() > PATH_BYTES_MAX || path.contains(['?', '#']) {
                return invalid(
                    "its path must start with `/`, without `..`, query or needless escapes",
                );
            }
        }
        Frontend::Inner { listen } => {
            if listen.port() == 0 {
                return invalid("an inner address needs a port");
            }
            if matches!(route.action, Action::Redirect { .. }) {
                return invalid("an inner address cannot redirect");
            }
        }
    }
    match &route.action {
        Action::Redirect { to, status } => check_redirect(route, to, *status),
        Action::Forward { targets, .. } => {
            if targets.len() > TARGETS_MAX {
                return invalid("expected at most 16 targets");
            }
            let endpoints = || targets.iter().flat_map(|target| &target.endpoints);
            if endpoints().count() > ENDPOINTS_MAX {
                return invalid("expected at most 10,000 endpoints");
            }
            if endpoints().collect::<HashSet<_>>().len() != endpoints().count() {
                return invalid("an endpoint is named twice");
            }
            if endpoints().any(|endpoint| matches!(endpoint, Endpoint::Service { .. })) {
                let message = format!(
                    "route {}: this edge cannot resolve service endpoints",
                    route.id
                );
                return Err(Error::unsupported(message));
            }
            Ok(())
        }
    }
}

fn check_redirect(route: &Route, to: &str, status: u16) -> Result<()> {
    let invalid = |fault: &str| Err(Error::invalid(format!("route {}: {fault}", route.id)));
    if !matches!(status, 301 | 302 | 307 | 308) {
        return invalid("a redirect's status is 301, 302, 307 or 308");
    }
    let absolute = to.starts_with("http://") || to.starts_with("https://");
    let path = to.starts_with('/') && !to.starts_with("//") && !to.starts_with("/\\");
    if !(absolute || path) || to.parse::<http::Uri>().is_err() || to.contains(['?', '#']) {
        return invalid("a redirect goes to an absolute http(s) URL or a path, without query");
    }
    Ok(())
}

/// Where requests come in, once each.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Door<'a> {
    Http(&'a str, &'a str),
    Inner(SocketAddr),
}

/// The doors that a route takes.
pub(crate) fn doors(route: &Route) -> Vec<Door<'_>> {
    match &route.frontend {
        Frontend::Http { hosts, path } => {
            // `/api` and `/api/` are the same prefix of segments.
            let path = path.trim_end_matches('/');
            let hosts: HashSet<_> = hosts.iter().map(|host| host.as_str()).collect();
            hosts
                .into_iter()
                .map(|host| Door::Http(host, path))
                .collect()
        }
        Frontend::Inner { listen } => vec![Door::Inner(*listen)],
    }
}

impl Table {
    /// Refuses a table that an edge cannot serve whole.
    ///
    /// # Errors
    /// `Invalid`, `Unsupported` or `Exhausted` of one route; `AlreadyExists` if two routes take the same host and path.
    pub(crate) fn check(&self) -> Result<()> {
        if self.routes.len() > ROUTES_MAX {
            return Err(Error::exhausted(format!(
                "a table has at most {ROUTES_MAX} routes"
            )));
        }
        let mut ids = HashSet::new();
        let mut taken = HashSet::new();
        for route in &self.routes {
            check(route)?;
            if !ids.insert(&route.id) {
                return Err(Error::invalid(format!(
                    "route {} is in the table twice",
                    route.id
                )));
            }
            for door in doors(route) {
                if !taken.insert(door.clone()) {
                    return Err(collision(&door));
                }
            }
        }
        Ok(())
    }
}

/// Says that a door is taken, not by whom: the other route may be another tenant's.
pub(crate) fn collision(door: &Door<'_>) -> Error {
    Error::already_exists(match door {
        Door::Http(host, path) => format!("{host}{path}/ is taken by another route"),
        Door::Inner(address) => format!("{address} is taken by another route"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{forward, redirect, route};

    #[test]
    fn two_routes_may_not_share_a_host_and_path() {
        let table = |routes| Table {
            generation: 1,
            routes,
        };
        let kind = |table: Table| table.check().map_err(|error| error.kind());
        let a = route("a", &["a.example"], "/api", forward(&[]));
        let b = route("b", &["b.example", "a.example"], "/api/", forward(&[]));
        let c = route("c", &["a.example"], "/apis", forward(&[]));
        assert_eq!(kind(table(vec![a.clone(), c])), Ok(()));
        assert_eq!(
            kind(table(vec![a, b])),
            Err(tappaas_core::ErrorKind::AlreadyExists)
        );
    }

    #[test]
    fn a_route_that_could_confuse_is_refused() {
        for path in [
            "", "api", "/a/../b", "/%61", "/a?b", "/a\\b", "/%2e%2e", "/a#b",
        ] {
            assert!(
                check(&route("a", &["a.example"], path, forward(&[]))).is_err(),
                "{path}"
            );
        }
        for to in [
            "javascript:alert(1)",
            "//evil.example",
            "/\\evil.example",
            "ftp://x/",
            "/a?b",
            "",
            "http://a b/",
        ] {
            assert!(
                check(&route("a", &["a.example"], "/", redirect(to, 301))).is_err(),
                "{to}"
            );
        }
        assert!(check(&route("a", &["a.example"], "/", redirect("/ok", 200))).is_err());
        assert!(check(&route("a", &[], "/", forward(&[]))).is_err());
        let twice = ["127.0.0.1:1", "127.0.0.1:1"];
        assert!(check(&route("a", &["a.example"], "/", forward(&twice))).is_err());
    }
}
