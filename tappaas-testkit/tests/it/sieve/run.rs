//! One scenario, run once, with or without something that goes wrong.

use std::{collections::BTreeMap, time::Duration};

use tappaas_core::{
    ErrorKind, Result,
    model::{OperationSpec, OperationState, Phase},
    platform::{Accepted, Deployment, Platform},
};
use tokio::time::Instant;

use super::{
    scenario::{Ask, Scenario, key, name, variable},
    state::State,
    upset::{Backend, Upset},
    world::{Running, Taps, World},
};

/// So long nothing is written in the end. Longer than the longest wait of a controller, so that what comes late is seen.
const QUIET: Duration = Duration::from_secs(65);

/// A run that is not over by then never ends.
const LIMIT: Duration = Duration::from_secs(3600);

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) state: State,
    pub(crate) verdict: OperationState,
    /// Whoever asked had to ask again.
    pub(crate) repeated: bool,
    pub(crate) violations: Vec<String>,
    /// How often each verb was called, from the start of the platform that was asked on.
    pub(crate) counts: Vec<(Backend, &'static str, u64)>,
}

/// Runs a scenario. An error says that it did not come to an end.
pub(crate) fn run(scenario: &Scenario, upset: &Upset) -> Result<Outcome, String> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new();
        let prelude = Taps::new(&world, false, &Upset::NONE);
        let backends = world.tapped(&prelude);
        let running = world.start(&backends);
        running.platform.client().sync().await;
        let [tenant, project, environment] = ["default", "default", "production"].map(name);
        let platform = &running.platform;
        let made = platform.create_environment(&tenant, &project, &environment);
        made.await.unwrap();
        for ask in &scenario.before {
            let accepted = ask.send(platform).await.unwrap();
            platform.settle(&key("web"), &accepted).await.unwrap();
            quiet(&prelude, Duration::from_secs(5)).await;
        }
        running.kill().await;

        let taps = Taps::new(&world, scenario.steady, upset);
        match tokio::time::timeout(LIMIT, disturbed(&world, &taps, scenario)).await {
            Err(_) => Err(format!(
                "not over within an hour: {:#?}",
                State::of(&world).await
            )),
            Ok((verdict, repeated)) => Ok(Outcome {
                state: State::of(&world).await,
                verdict,
                repeated,
                violations: taps.watch.violations(),
                counts: taps.counts(),
            }),
        }
    })
}

/// Asks, and waits until nothing happens any more; a platform that dies has a successor. Returns what it came to, and whether it took
/// more than one request.
async fn disturbed(world: &World, taps: &Taps, scenario: &Scenario) -> (OperationState, bool) {
    let backends = world.tapped(taps);
    let mut request = Request::default();
    loop {
        let running = world.start(&backends);
        let verdict = tokio::select! {
            biased;
            () = taps.watch.died.notified() => None,
            verdict = request.settle(&running, taps, scenario) => Some(verdict),
        };
        running.kill().await;
        if let Some(verdict) = verdict {
            return (verdict, request.sent > 1);
        }
    }
}

/// Says whether who is told so may ask again: a platform that has just started may know less than there is.
fn is_passing(kind: ErrorKind) -> bool {
    kind.retryable() || matches!(kind, ErrorKind::Conflict | ErrorKind::NotFound)
}

/// What a caller knows of its request.
#[derive(Default)]
struct Request {
    sent: u32,
    accepted: Option<Accepted>,
}

impl Request {
    async fn settle(
        &mut self,
        running: &Running,
        taps: &Taps,
        scenario: &Scenario,
    ) -> OperationState {
        let platform = &running.platform;
        platform.client().sync().await;
        while self.accepted.is_none() {
            self.sent += 1;
            match scenario.ask.send(platform).await {
                Ok(accepted) => self.accepted = Some(accepted),
                // It was heard the first time.
                Err(error) if self.sent > 1 && scenario.ask.is_answer(error.kind()) => {
                    self.accepted = Some(Accepted {
                        operation: None,
                        generation: 0,
                        notes: Vec::new(),
                    });
                }
                Err(error) if is_passing(error.kind()) && self.sent < 50 => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => panic!("{:?} is refused: {error}", scenario.ask),
            }
        }
        let operation = self.accepted.as_ref().and_then(|a| a.operation.clone());
        let verdict = match operation {
            Some(id) => ended(platform, taps, &id).await,
            None => OperationState::Running,
        };
        quiet(taps, QUIET).await;
        match verdict {
            OperationState::Running => seen(platform),
            verdict => verdict,
        }
    }
}

impl Ask {
    pub(crate) async fn send(&self, platform: &Platform) -> Result<Accepted> {
        let key = key("web");
        match self {
            Self::Deploy(content, count) => {
                let deployment = Deployment {
                    content: (**content).clone(),
                    scale: BTreeMap::from([(name("web"), *count)]),
                    autoscale: BTreeMap::new(),
                };
                platform.deploy(&key, deployment).await
            }
            Self::Scale(count) => {
                let counts = BTreeMap::from([(name("web"), *count)]);
                platform.scale(&key, counts).await
            }
            Self::Configure(name, value) => {
                let set = variable(name, value);
                platform.configure(&key, set, Vec::new()).await
            }
            Self::Rollback(to) => platform.rollback(&key, Some(*to)).await,
            Self::Restart => platform.restart(&key).await,
            Self::Destroy => platform.destroy(&key).await,
        }
    }

    /// Says whether this is what a second request is told because of the first.
    fn is_answer(&self, kind: ErrorKind) -> bool {
        match self {
            Self::Destroy => kind == ErrorKind::NotFound,
            Self::Restart => kind == ErrorKind::Conflict,
            _ => false,
        }
    }
}

async fn ended(platform: &Platform, taps: &Taps, id: &str) -> OperationState {
    loop {
        let operation = platform
            .client()
            .get::<OperationSpec>(&key("web").scope(), id);
        if let Some(operation) = operation.unwrap()
            && operation.status.state.ended()
        {
            return operation.status.state;
        }
        tick(taps).await;
    }
}

/// What whoever has no operation to ask for sees.
fn seen(platform: &Platform) -> OperationState {
    match platform.application(&key("web")) {
        Ok(application) if application.status.phase == Phase::Running => OperationState::Succeeded,
        Ok(application) if application.status.phase == Phase::Failed => OperationState::Failed,
        Ok(_) => OperationState::Running,
        Err(_) => OperationState::Succeeded,
    }
}

pub(crate) async fn quiet(taps: &Taps, wanted: Duration) {
    let begun = Instant::now();
    while taps.watch.quiet().min(begun.elapsed()) < wanted {
        tick(taps).await;
    }
}

async fn tick(taps: &Taps) {
    taps.watch.look("a moment");
    let busy = taps.watch.quiet() < Duration::from_secs(5);
    let step = if busy { 20 } else { 1000 };
    tokio::time::sleep(Duration::from_millis(step)).await;
}
