//! What a [`Scheduler`](tappaas_core::backend::Scheduler) and an [`IngressProvider`](tappaas_core::backend::IngressProvider) must come
//! to together.

use std::{cell::Cell, fmt, time::Duration};

use futures::future::{try_join, try_join_all};
use tappaas_core::backend::{Endpoint, Frontend, InstanceStatus, Peer, ReleaseSet, Template};

use super::{
    Verdict, application_key,
    ingress::{HOST, IngressFixture, Scene, target},
    macros::ensure,
    name, pass_over,
    scheduler::{SchedulerFixture, Stage, with_port},
    until,
};
use crate::Program;

/// A pair of backends: the ingress reaches the scheduler's instances.
pub trait SwitchFixture: fmt::Debug + Send + Sync {
    /// The scheduler's fixture.
    fn scheduling(&self) -> &dyn SchedulerFixture;

    /// The ingress's fixture.
    fn routing(&self) -> &dyn IngressFixture;
}

impl<S: SchedulerFixture, I: IngressFixture> SwitchFixture for (S, I) {
    fn scheduling(&self) -> &dyn SchedulerFixture {
        &self.0
    }

    fn routing(&self) -> &dyn IngressFixture {
        &self.1
    }
}

/// Expands to a test for each thing that a scheduler and an ingress must come to together.
///
/// Takes an expression for a [`SwitchFixture`](crate::conformance::switch::SwitchFixture), which may `.await`, and before it,
/// optionally, the attribute that makes a test: `#[tokio::test]` if none is given.
#[macro_export]
macro_rules! switch_conformance {
    (#[$test:meta] $fixture:expr) => {
        $crate::conformance_tests! { switch, $test, $fixture,
            no_request_is_lost_while_releases_replace_each_other
            no_request_is_lost_while_instances_come_and_go
            only_a_named_peer_is_reached
        }
    };
    ($fixture:expr) => {
        $crate::switch_conformance!(
            #[tokio::test]
            $fixture
        );
    };
}

/// Requests on their way at any moment.
const LANES: u64 = 8;
/// How long each takes: long enough that every step of a switch happens during some.
const LATENCY: Duration = Duration::from_millis(30);

/// In the order new is ready → it is routed → the edge confirms → what is in flight ends → old is stopped, no request is lost.
pub async fn no_request_is_lost_while_releases_replace_each_other(
    fixture: &dyn SwitchFixture,
) -> Verdict {
    let mut switch = Switch::new(
        fixture,
        "no_request_is_lost_while_releases_replace_each_other",
    );
    let Some(switch) = switch.as_mut() else {
        return Ok(());
    };
    let old = switch.template("old").await;
    let new = switch.template("new").await;
    switch.stage.apply(&[(1, 2, &old)]).await?;
    let ready = switch.stage.ready(2).await?;
    switch.route(&ready).await?;
    let load = Load::new(fixture.routing());
    let switching = async {
        for round in 0..3 {
            let (from, to, answer) = match round % 2 {
                0 => ((1, &old), (2, &new), "new /"),
                _ => ((2, &new), (1, &old), "old /"),
            };
            load.flows().await?;
            switch.replace(from, to).await?;
            switch.scene.answers("/", answer).await?;
        }
        Ok(())
    };
    load.during(switching).await
}

/// Scaling up and down, and the replacement of one instance by another, lose no request either.
pub async fn no_request_is_lost_while_instances_come_and_go(
    fixture: &dyn SwitchFixture,
) -> Verdict {
    let mut switch = Switch::new(fixture, "no_request_is_lost_while_instances_come_and_go");
    let Some(switch) = switch.as_mut() else {
        return Ok(());
    };
    let template = switch.template("a").await;
    switch.stage.apply(&[(1, 1, &template)]).await?;
    let ready = switch.stage.ready(1).await?;
    switch.route(&ready).await?;
    let load = Load::new(fixture.routing());
    let changing = async {
        for count in [3, 1, 2, 1] {
            load.flows().await?;
            switch.scale(count, &template).await?;
        }
        Ok(())
    };
    load.during(changing).await
}

/// Instances reach the address of a peer if, and only if, their template names it.
pub async fn only_a_named_peer_is_reached(fixture: &dyn SwitchFixture) -> Verdict {
    let (scheduling, routing) = (fixture.scheduling(), fixture.routing());
    let mut bound_to = Stage::of(scheduling, "target");
    let template = bound_to.serving("target").await;
    bound_to.apply(&[(1, 1, &template)]).await?;
    let endpoints = endpoints(&bound_to.ready(1).await?);
    let peer = Peer {
        application: application_key("target"),
        process: name("web"),
        port: name("http"),
    };
    for (application, bound) in [("bound", true), ("unbound", false)] {
        let mut stage = Stage::of(scheduling, application);
        let address = stage
            .scheduler
            .peer(&application_key(application), &peer)
            .await?;
        if let Some(listen) = address.listen {
            if !routing.ingress().capabilities().inner {
                pass_over("only_a_named_peer_is_reached", "the ingress has no inside");
                return Ok(());
            }
            let mut scene = Scene::of(routing, application, "unused.example.com", "/");
            scene.route.frontend = Frontend::Inner { listen };
            scene.forward(vec![target(1, endpoints.clone())]).await?;
        }
        let mut template = stage.template(Program::Idle).await;
        template.peers.extend(bound.then(|| peer.clone()));
        stage.apply(&[(1, 1, &template)]).await?;
        stage.ready(1).await?;
        let fetch = scheduling.fetch(&address.host, address.port);
        let fetch: Vec<&str> = fetch.iter().map(String::as_str).collect();
        let ran = stage.exec(&fetch, "").await?;
        let reached = ran.output.contains("target /");
        ensure!(reached == bound, "{application} at {address:?}: {ran:?}");
    }
    Ok(())
}

/// A workload and the route to it.
struct Switch<'a> {
    stage: Stage<'a>,
    scene: Scene<'a>,
}

impl<'a> Switch<'a> {
    /// Prepares a workload and its route, unless the scheduler rolls by itself.
    fn new(fixture: &'a dyn SwitchFixture, case: &str) -> Option<Self> {
        let (stage, scene) = (
            Stage::new(fixture.scheduling()),
            Scene::new(fixture.routing()),
        );
        if !stage.scheduler.capabilities().stepwise {
            pass_over(case, "the scheduler is not stepwise");
            return None;
        }
        Some(Self { stage, scene })
    }

    async fn template(&self, name: &str) -> Template {
        let program = Program::Serve {
            name: name.to_owned(),
            latency: LATENCY,
        };
        with_port(self.stage.template(program).await, 8080, true)
    }

    /// Routes to these instances alone, and waits until the others have drained.
    async fn route(&mut self, instances: &[InstanceStatus]) -> Verdict {
        let target = target(1, endpoints(instances));
        self.scene.forward(vec![target]).await?;
        self.scene.drained().await
    }

    /// Replaces the two instances of a release by two of another.
    async fn replace(&mut self, from: (u64, &Template), to: (u64, &Template)) -> Verdict {
        self.stage
            .apply(&[(from.0, 2, from.1), (to.0, 2, to.1)])
            .await?;
        let all = self.stage.ready(4).await?;
        let new: Vec<_> = all
            .into_iter()
            .filter(|instance| instance.release == to.0)
            .collect();
        self.route(&new).await?;
        self.stage
            .apply(&[(from.0, 0, from.1), (to.0, 2, to.1)])
            .await?;
        self.stage.ready(2).await?;
        Ok(())
    }

    /// Has so many instances; those that go are taken out of the route first.
    async fn scale(&mut self, count: u32, template: &Template) -> Verdict {
        let before = self.stage.status().await?.instances;
        let staying = &before[..before.len().min(count as usize)];
        self.route(staying).await?;
        let retiring = before[staying.len()..]
            .iter()
            .map(|instance| instance.id.clone());
        let set = ReleaseSet {
            release: 1,
            count,
            retiring: retiring.collect(),
            template: template.clone(),
        };
        self.stage.apply_sets(vec![set]).await?;
        let ready = self.stage.ready(count as usize).await?;
        self.route(&ready).await
    }
}

/// Requests, one after the other, on several lanes at once.
struct Load<'a> {
    routing: &'a dyn IngressFixture,
    answered: Cell<u64>,
    over: Cell<bool>,
}

impl<'a> Load<'a> {
    fn new(routing: &'a dyn IngressFixture) -> Self {
        Self {
            routing,
            answered: Cell::new(0),
            over: Cell::new(false),
        }
    }

    /// Does something under load, and makes sure that every request is answered.
    async fn during(&self, work: impl Future<Output = Verdict>) -> Verdict {
        let work = async {
            let outcome = work.await;
            self.over.set(true);
            outcome
        };
        let lanes = try_join_all((0..LANES).map(|_| self.lane()));
        try_join(work, lanes).await?;
        let answered = self.answered.get();
        ensure!(answered > LANES, "the load was none: {answered} requests");
        Ok(())
    }

    /// Waits until requests have gone to wherever they may go now.
    async fn flows(&self) -> Verdict {
        let before = self.answered.get();
        until("the load flows", async || {
            Ok((self.answered.get() >= before + 4 * LANES).then_some(()))
        })
        .await
    }

    async fn lane(&self) -> Verdict {
        while !self.over.get() {
            let reply = self.routing.request(HOST, "/").await?;
            let answered = self.answered.get();
            ensure!(
                reply.status == 200,
                "after {answered} answers one request got {reply:?}"
            );
            self.answered.set(answered + 1);
        }
        Ok(())
    }
}

fn endpoints(instances: &[InstanceStatus]) -> Vec<Endpoint> {
    let endpoints = instances
        .iter()
        .flat_map(|instance| instance.endpoints.values());
    endpoints.cloned().collect()
}
