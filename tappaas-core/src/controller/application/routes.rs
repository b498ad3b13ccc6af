use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{RETRY, Snapshot, Step, template};
use crate::{
    Digest, Name, Result,
    backend::{
        Action, Endpoint, Frontend, IngressCapabilities, InstanceStatus, Route, RouteId,
        RouteStatus, Target, Track, WorkloadId,
    },
    model::{ApplicationKey, Host, Protocol, Release, RouteSpec},
};

/// Where requests are answered, by process: the endpoints of each instance, or of all together.
pub(super) type Serving<'a> = BTreeMap<Name, Vec<&'a BTreeMap<Name, Endpoint>>>;

/// The default host of an application: `<app>.<base>`, with as many of environment, project and tenant in between as it takes to come to
/// the last that is not the default one. So no two applications have the same.
pub fn default_host(key: &ApplicationKey, base: &Host) -> Host {
    let outer = [
        (&key.environment, "production"),
        (&key.project, "default"),
        (&key.tenant, "default"),
    ];
    let last = outer
        .iter()
        .rposition(|(name, default)| **name != **default);
    let written = &outer[..last.map_or(0, |last| last + 1)];
    let mut labels = vec![key.name.as_str()];
    labels.extend(written.iter().map(|(name, _)| name.as_str()));
    labels.push(base.as_str());
    let joined = labels.join(".").parse();
    // Too long only with a base of over 80 characters, which is refused wherever one is given.
    joined.expect("labels of at most 40 characters make a host")
}

/// Refuses hosts that are not for the application's tenant.
pub(super) fn check(snapshot: &Snapshot) -> Result<()> {
    let routes = snapshot.spec().content.routes.iter();
    let mut hosts = routes.flat_map(|route| &route.hosts);
    hosts.try_for_each(|host| snapshot.domains.admit(&snapshot.key.tenant, host))
}

/// Why an application gets none of the hosts that it leaves to the platform.
pub(super) fn hostless(snapshot: &Snapshot) -> Option<&str> {
    let routes = &snapshot.spec().content.routes;
    let leaves = routes.is_empty() || routes.iter().any(|route| route.hosts.is_empty());
    snapshot.domains.problem().filter(|_| leaves)
}

/// The hosts that a release answers at.
pub(super) fn hosts(snapshot: &Snapshot, release: &Release) -> BTreeSet<Host> {
    let specs = specs(release);
    let each = specs.iter().map(|spec| hosts_of(snapshot, release, spec));
    each.flatten().collect()
}

/// The hosts of a route. One that names none has what its release was given.
fn hosts_of(snapshot: &Snapshot, release: &Release, spec: &RouteSpec) -> Vec<Host> {
    let given = || release.spec.host.clone();
    match spec.hosts.is_empty() {
        true => vec![given().unwrap_or_else(|| snapshot.domains.default_host(&snapshot.key))],
        false => spec.hosts.clone(),
    }
}

/// The routes that ought to be there while `release` says where requests come in and `serving` answers them.
pub(super) fn desired(
    snapshot: &Snapshot,
    release: Option<&Release>,
    serving: &Serving<'_>,
) -> Vec<Route> {
    let mut routes = Vec::new();
    if let Some(release) = release {
        for spec in specs(release) {
            routes.extend(outer(snapshot, release, &spec, serving));
        }
        routes.extend(
            snapshot
                .callers
                .iter()
                .filter_map(|caller| inner(snapshot, release, caller, serving)),
        );
    }
    // Callers of one application share an address.
    routes.sort_by(|a: &Route, b| a.id.cmp(&b.id));
    routes.dedup_by(|a, b| a.id == b.id);
    routes
}

/// The status of redirects: one after which a method stays what it was, if the ingress can.
pub(super) fn redirect(can: &IngressCapabilities) -> u16 {
    let best = [308, 301, 307, 302];
    let mut possible = best
        .into_iter()
        .filter(|status| can.redirects.contains(status));
    possible.next().unwrap_or(best[0])
}

/// The steps that turn the observed routes into the desired ones.
pub(super) fn steps(snapshot: &Snapshot, desired: Vec<Route>) -> Vec<Step> {
    let observed = &snapshot.routes;
    let wanted: BTreeSet<RouteId> = desired.iter().map(|route| route.id.clone()).collect();
    let unknown = |status: &RouteStatus| {
        let inner = matches!(status.route.frontend, Frontend::Inner { .. });
        inner && snapshot.callers_missing
    };
    let gone = observed
        .iter()
        .filter(|(id, status)| !wanted.contains(id) && !unknown(status));
    let mut steps: Vec<Step> = gone.map(|(id, _)| Step::RemoveRoute(id.clone())).collect();
    for mut route in desired {
        let last = observed.get(&route.id).map(|status| &status.route);
        let same =
            last.is_some_and(|last| last.frontend == route.frontend && last.action == route.action);
        if !same {
            route.generation = last.map_or(0, |last| last.generation) + 1;
            steps.push(Step::ApplyRoute(Box::new(route)));
        } else if let Some(status) = observed.get(&route.id).filter(|s| s.is_undone()) {
            steps.push(Step::ApplyRoute(Box::new(status.route.clone())));
        }
    }
    steps
}

/// Says whether a step makes a way in from outside that was not there.
pub(super) fn opens(snapshot: &Snapshot, step: &Step) -> bool {
    let new = |route: &Route| !snapshot.routes.contains_key(&route.id);
    matches!(step, Step::ApplyRoute(route) if new(route)) && !step.is_inner_route()
}

/// Says whether a step makes a route that nothing answers yet.
pub(super) fn leads_nowhere_yet(snapshot: &Snapshot, step: &Step) -> bool {
    let Step::ApplyRoute(route) = step else {
        return false;
    };
    let nowhere = match &route.action {
        Action::Forward { targets, .. } => targets.iter().all(|it| it.endpoints.is_empty()),
        Action::Redirect { .. } => false,
    };
    nowhere && !snapshot.routes.contains_key(&route.id)
}

/// Why it is not known of a route that new requests see it, where that does not pass by itself in a moment.
pub(super) fn held_up(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    let routes = snapshot.routes.values();
    routes
        .filter(|status| !is_following(status))
        .filter_map(pending)
}

/// The same, where it does.
pub(super) fn following(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    let routes = snapshot.routes.values();
    routes
        .filter(|status| is_following(status))
        .filter_map(pending)
}

/// The longer it was in vain, the later an ingress says to look again.
fn is_following(status: &RouteStatus) -> bool {
    status.look_after.is_some_and(|after| after < RETRY)
}

fn pending(status: &RouteStatus) -> Option<String> {
    let place = match &status.route.frontend {
        Frontend::Http { hosts, path } => {
            let hosts: Vec<_> = hosts.iter().map(Host::as_str).collect();
            format!("{}{path}", hosts.join(", "))
        }
        Frontend::Inner { listen } => listen.to_string(),
    };
    Some(format!("route {place}: {}", status.pending.as_ref()?))
}

/// Says whether any route still leads to an instance, or has requests to it in flight.
pub(super) fn busy(observed: &BTreeMap<RouteId, RouteStatus>, instance: &InstanceStatus) -> Busy {
    let ours: BTreeSet<&Endpoint> = instance.endpoints.values().collect();
    let routed = |status: &RouteStatus| match &status.route.action {
        Action::Forward { targets, .. } => targets
            .iter()
            .flat_map(|t| &t.endpoints)
            .any(|e| ours.contains(e)),
        Action::Redirect { .. } => false,
    };
    let draining = |status: &RouteStatus| {
        status
            .draining
            .iter()
            .any(|draining| ours.contains(&draining.endpoint))
    };
    if observed.values().any(routed) {
        Busy::Routed
    } else if observed.values().any(draining) {
        Busy::Draining
    } else {
        Busy::Idle
    }
}

/// What an instance still has to do with requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Busy {
    /// New requests may come.
    Routed,
    /// No new requests come, but some are in flight.
    Draining,
    /// Nothing.
    Idle,
}

fn specs(release: &Release) -> Vec<RouteSpec> {
    let routes = &release.spec.content.routes;
    if !routes.is_empty() {
        return routes.clone();
    }
    let web = template::web();
    let processes = template::processes(release);
    if !processes.contains_key(&web) {
        return Vec::new();
    }
    vec![RouteSpec {
        hosts: Vec::new(),
        path: "/".to_owned(),
        process: Some(web),
        port: None,
        strip: false,
        redirect: None,
    }]
}

fn outer(
    snapshot: &Snapshot,
    release: &Release,
    spec: &RouteSpec,
    serving: &Serving<'_>,
) -> Vec<Route> {
    let web = template::web();
    let action = match (&spec.redirect, &spec.process) {
        (Some(to), _) => Action::Redirect {
            to: to.clone(),
            status: snapshot.redirect,
        },
        (None, process) => Action::Forward {
            targets: targets(
                release,
                process.as_ref().unwrap_or(&web),
                spec.port.as_ref(),
                serving,
            ),
            strip_prefix: spec.strip,
            hold: Duration::ZERO,
        },
    };
    let owned = hosts_of(snapshot, release, spec)
        .into_iter()
        .filter(|host| snapshot.claims.get(host) == Some(&snapshot.key));
    owned
        .map(|host| Route {
            id: id(snapshot, "http", &format!("{host}{}", spec.path)),
            generation: 0,
            frontend: Frontend::Http {
                hosts: vec![host],
                path: spec.path.clone(),
            },
            action: action.clone(),
        })
        .collect()
}

fn inner(
    snapshot: &Snapshot,
    release: &Release,
    caller: &super::Caller,
    serving: &Serving<'_>,
) -> Option<Route> {
    let listen = caller.address.listen?;
    Some(Route {
        id: id(snapshot, "inner", &listen.to_string()),
        generation: 0,
        frontend: Frontend::Inner { listen },
        action: Action::Forward {
            targets: targets(release, &caller.process, caller.port.as_ref(), serving),
            strip_prefix: false,
            hold: Duration::ZERO,
        },
    })
}

/// A route's name follows from where it comes in, so that a change of where never collides with what was there.
fn id(snapshot: &Snapshot, kind: &str, place: &str) -> RouteId {
    let name = format!("{kind}-{}", Digest::of(place).short());
    RouteId {
        application: snapshot.key.clone(),
        name: Name::new(name).expect("a word and hexadecimal digits make a name"),
    }
}

fn targets(
    release: &Release,
    process: &Name,
    port: Option<&Name>,
    serving: &Serving<'_>,
) -> Vec<Target> {
    let processes = template::processes(release);
    let routable =
        |p: &&crate::model::Port| port.map_or(p.protocol != Protocol::Tcp, |name| p.name == *name);
    let declared = processes
        .get(process)
        .and_then(|process| process.ports.iter().find(routable));
    let port = declared.map(|port| &port.name).or(port);
    let each = serving.get(process).into_iter().flatten();
    let endpoints = each.filter_map(|endpoints| match port {
        Some(port) => endpoints.get(port),
        None => endpoints.values().next(),
    });
    vec![Target {
        weight: 1,
        endpoints: endpoints.cloned().collect(),
    }]
}

/// The identity of the workload that serves a process.
pub(super) fn workload(snapshot: &Snapshot, process: &Name) -> WorkloadId {
    WorkloadId {
        application: snapshot.key.clone(),
        process: process.clone(),
        track: Track::Stable,
    }
}
