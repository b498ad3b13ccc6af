//! What a run comes to, without what differs from run to run for no reason.

use std::collections::BTreeMap;

use tappaas_core::{
    Kind, ListRequest, Object, Scope, Store as _,
    backend::{Action, Endpoint, Frontend, IngressProvider as _, Scheduler as _, Volumes as _},
    model::{
        Application, Build, HostClaim, Operation, OperationState, Release, Source, VolumeObject,
    },
};

use super::world::{HOST, World};

/// A state in lines, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct State {
    /// What anybody can see of what runs, and what leads to it.
    pub(crate) essence: Vec<String>,
    /// How it came to that: the history, which a request made twice lengthens.
    pub(crate) history: Vec<String>,
}

impl State {
    /// Asks the backends themselves.
    pub(crate) async fn of(world: &World) -> Self {
        let mut state = Self::default();
        let releases = objects(world, Kind::Release).await;
        let releases: Vec<_> = releases
            .iter()
            .map(|o| Release::from_object(o).unwrap())
            .collect();
        for application in objects(world, Kind::Application).await {
            state.application(&Application::from_object(&application).unwrap(), &releases);
        }
        for release in &releases {
            let (spec, status) = (&release.spec, &release.status);
            state.history.push(format!(
                "release {} of {} rollback {:?}: {:?} {} {:?}",
                spec.version,
                source(release),
                spec.rollback,
                status.phase,
                status.message,
                status.command,
            ));
        }
        state.records(world).await;
        state.backends(world, &releases).await;
        state.essence.sort();
        state.history.sort();
        state
    }

    fn application(&mut self, application: &Application, releases: &[Release]) {
        let (name, spec, status) = (
            &application.metadata.name,
            &application.spec,
            &application.status,
        );
        let find = |version| find(releases, name, version?);
        let current = find(status.current).map(source);
        let wanted: BTreeMap<_, _> = status
            .processes
            .iter()
            .map(|(name, process)| (name.as_str(), (process.wanted, process.ready)))
            .collect();
        self.essence.push(format!(
            "application {name}: {:?}, current {current:?}, {wanted:?}, scale {:?}, config {:?}, draining {:?}, deletion {}",
            status.phase,
            spec.scale,
            spec.content.config.keys(),
            status.draining,
            application.metadata.deletion.is_some(),
        ));
        self.history.push(format!(
            "application {name}: attempt {}, rollback {:?}, current {:?}, latest {:?}, seen {}: {}",
            spec.attempt,
            spec.rollback,
            status.current,
            status.latest,
            status.generation == application.metadata.generation,
            status.message,
        ));
    }

    async fn records(&mut self, world: &World) {
        for build in objects(world, Kind::Build).await {
            let build = Build::from_object(&build).unwrap();
            let (spec, status) = (&build.spec, &build.status);
            self.history
                .push(format!("build {}: {:?}", spec.number, status.phase));
        }
        for operation in objects(world, Kind::Operation).await {
            let operation = Operation::from_object(&operation).unwrap();
            let (verb, status) = (operation.spec.verb, &operation.status);
            self.history
                .push(format!("{verb:?}: {:?} {}", status.state, status.message));
            if status.state == OperationState::Running {
                self.essence.push(format!("{verb:?} has not ended"));
            }
        }
        for claim in objects(world, Kind::HostClaim).await {
            let spec = HostClaim::from_object(&claim).unwrap().spec;
            self.essence
                .push(format!("host {} of {}", spec.host, spec.application));
        }
        for volume in objects(world, Kind::Volume).await {
            let spec = VolumeObject::from_object(&volume).unwrap().spec;
            self.essence
                .push(format!("record of {} of {}", spec.volume, spec.application));
        }
    }

    async fn backends(&mut self, world: &World, releases: &[Release]) {
        let mut names = BTreeMap::new();
        for id in world.scheduler.list().await.unwrap() {
            let status = world.scheduler.observe(&id).await.unwrap();
            self.essence.push(format!("workload {id}"));
            for instance in status.into_iter().flat_map(|status| status.instances) {
                let release = find(releases, id.application.name.as_str(), instance.release);
                let release = release.map(source);
                let what = format!("instance of {id} of {release:?}");
                for endpoint in instance.endpoints.into_values() {
                    names.insert(endpoint, what.clone());
                }
                self.essence.push(format!(
                    "{what}: {:?}, ready {}",
                    instance.state, instance.ready
                ));
            }
        }
        for id in world.ingress.list().await.unwrap() {
            let status = world.ingress.observe(&id).await.unwrap().unwrap();
            let to = describe(&status.route.action, &names);
            let from = match &status.route.frontend {
                Frontend::Http { hosts, path } => format!("{hosts:?}{path}"),
                Frontend::Inner { .. } => "inside".to_owned(),
            };
            self.essence.push(format!("route {from} to {to}"));
        }
        for id in world.volumes.list().await.unwrap() {
            self.essence.push(format!("volume {}", id.name));
        }
        let answer = world.ingress.request(HOST, "/").await;
        self.essence
            .push(format!("{HOST} answers {} {}", answer.status, answer.body));
    }

    /// The lines that only one of two states has.
    pub(crate) fn difference(wanted: &[String], found: &[String]) -> Vec<String> {
        let lacking = wanted.iter().filter(|line| !found.contains(line));
        let surplus = found.iter().filter(|line| !wanted.contains(line));
        let lacking = lacking.map(|line| format!("- {line}"));
        let mut all: Vec<_> = lacking
            .chain(surplus.map(|line| format!("+ {line}")))
            .collect();
        if all.is_empty() && wanted != found {
            all.push(format!("other numbers: {wanted:#?} {found:#?}"));
        }
        all
    }
}

fn describe(action: &Action, names: &BTreeMap<Endpoint, String>) -> String {
    let Action::Forward { targets, .. } = action else {
        return format!("{action:?}");
    };
    let endpoints = targets.iter().flat_map(|target| &target.endpoints);
    let mut each: Vec<_> = endpoints
        .map(|endpoint| names.get(endpoint).map_or("nothing", String::as_str))
        .collect();
    each.sort_unstable();
    format!("{each:?}")
}

fn find<'a>(releases: &'a [Release], application: &str, version: u64) -> Option<&'a Release> {
    let mut releases = releases.iter();
    releases.find(|r| r.spec.application == *application && r.spec.version == version)
}

fn source(release: &Release) -> String {
    match &release.spec.content.source {
        Source::Git { commit, .. } => commit.clone(),
        other => format!("{other:?}"),
    }
}

async fn objects(world: &World, kind: Kind) -> Vec<Object> {
    let request = ListRequest::new(kind, Scope::cluster());
    world.store.list(&request).await.unwrap().objects
}
