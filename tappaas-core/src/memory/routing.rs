use crate::{
    backend::{Endpoint, Frontend, Route, Target},
    model::Host,
};

/// The route that a request from outside takes: an exact host before a wildcard, then the longest path prefix.
pub(super) fn matching<'a>(
    routes: impl Iterator<Item = &'a Route>,
    host: &str,
    path: &str,
) -> Option<&'a Route> {
    let fits = |route: &'a Route| match &route.frontend {
        Frontend::Http {
            hosts,
            path: prefix,
        } if under(prefix, path) => {
            let fitting = hosts.iter().filter(|pattern| matches(pattern, host));
            let exact = fitting.map(|pattern| !pattern.wildcard()).max()?;
            Some(((exact, prefix.trim_end_matches('/').len()), route))
        }
        Frontend::Http { .. } | Frontend::Inner { .. } => None,
    };
    let best = routes.filter_map(fits).max_by_key(|(rank, _)| *rank);
    best.map(|(_, route)| route)
}

/// Says whether two frontends would compete for the same requests.
pub(super) fn collide(one: &Frontend, other: &Frontend) -> bool {
    match (one, other) {
        (Frontend::Inner { listen: one }, Frontend::Inner { listen: other }) => one == other,
        (
            Frontend::Http { hosts, path },
            Frontend::Http {
                hosts: other_hosts,
                path: other_path,
            },
        ) => {
            path.trim_end_matches('/') == other_path.trim_end_matches('/')
                && hosts.iter().any(|host| other_hosts.contains(host))
        }
        (Frontend::Http { .. }, Frontend::Inner { .. })
        | (Frontend::Inner { .. }, Frontend::Http { .. }) => false,
    }
}

/// The path that is forwarded when the prefix is taken off.
pub(super) fn strip(prefix: &str, path: &str) -> String {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'));
    match rest.unwrap_or(path) {
        rest if rest.starts_with('/') => rest.to_owned(),
        rest => format!("/{rest}"),
    }
}

/// The target whose turn it is, by smooth weighted round robin over those that can answer. A target without endpoints leaves its
/// share to the others. `credits` is what each target is owed; whoever keeps the route keeps it from turn to turn.
pub(super) fn next<'a>(targets: &'a [Target], credits: &mut Vec<i64>) -> Option<&'a Target> {
    credits.resize(targets.len(), 0);
    let mut total = 0;
    let mut best = None;
    for (index, target) in targets.iter().enumerate() {
        if target.weight == 0 || target.endpoints.is_empty() {
            continue;
        }
        total += i64::from(target.weight);
        credits[index] += i64::from(target.weight);
        if best.is_none_or(|best: usize| credits[index] > credits[best]) {
            best = Some(index);
        }
    }
    let best = best?;
    credits[best] -= total;
    Some(&targets[best])
}

/// Says whether a route may send something to an endpoint.
pub(super) fn names(route: &Route, endpoint: &Endpoint) -> bool {
    match &route.action {
        crate::backend::Action::Forward { targets, .. } => targets
            .iter()
            .any(|target| target.endpoints.contains(endpoint)),
        crate::backend::Action::Redirect { .. } => false,
    }
}

fn under(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

fn matches(pattern: &Host, host: &str) -> bool {
    match pattern.as_str().strip_prefix("*.") {
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => pattern.as_str() == host,
    }
}
