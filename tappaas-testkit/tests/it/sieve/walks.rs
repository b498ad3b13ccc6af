//! From state to state: whatever is asked for in whatever order, what runs in the end is what was declared last and could run.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use tappaas_core::{
    Result,
    memory::Behaviour,
    model::{
        ApplicationContent, Command, OperationState, Port, Probe, ProbeCheck, Process, Protocol,
        RouteSpec, VolumeMount,
    },
    platform::{Accepted, Deployment, Platform},
};

use super::{
    run::quiet,
    scenario::{content, key, name, variable},
    state::State,
    upset::Upset,
    world::{Running, Taps, World},
};

/// What may be declared.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Declared {
    source: &'static str,
    worker: bool,
    volume: bool,
    host: Option<&'static str>,
    path: &'static str,
    probe: Option<&'static str>,
    command: Option<&'static str>,
    surge: u32,
    unavailable: u32,
    variable: u8,
}

/// What may be asked for.
#[derive(Clone, Debug)]
enum Ask {
    Deploy(Declared, u32),
    Scale(u32),
    Configure(u8),
    /// To one of the releases that were healthy, by its place among them.
    Rollback(usize),
    Restart,
    Destroy,
}

fn declared() -> impl Strategy<Value = Declared> {
    let source = prop_oneof![4 => Just("v1"), 4 => Just("v2"), 1 => Just("slow"), 1 => Just("bad"), 1 => Just("broken")];
    let host = prop_oneof![4 => Just(None), 3 => Just(Some("www.example.com")), 1 => Just(Some("taken.example.com"))];
    let path = prop_oneof![3 => Just("/"), 1 => Just("/api")];
    let probe = prop_oneof![4 => Just(None), 3 => Just(Some("main")), 1 => Just(Some("nowhere"))];
    let command =
        prop_oneof![6 => Just(None), 2 => Just(Some("migrate")), 1 => Just(Some("explode"))];
    let flags = (any::<bool>(), prop::bool::weighted(0.25));
    let numbers = (0..3_u32, 0..2_u32, any::<u8>());
    (source, host, path, probe, command, flags, numbers).prop_map(
        |(source, host, path, probe, command, (worker, volume), (surge, unavailable, variable))| {
            Declared {
                source,
                worker,
                volume,
                host,
                path,
                probe,
                command,
                surge,
                unavailable,
                variable,
            }
        },
    )
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        6 => (declared(), 1..4_u32).prop_map(|(declared, count)| Ask::Deploy(declared, count)),
        2 => (1..4_u32).prop_map(Ask::Scale),
        2 => (0..3_u8).prop_map(Ask::Configure),
        2 => any::<usize>().prop_map(Ask::Rollback),
        1 => Just(Ask::Restart),
        1 => Just(Ask::Destroy),
    ]
}

impl Declared {
    /// Says whether it makes sense by itself: whether it is accepted.
    fn is_valid(&self) -> bool {
        self.probe != Some("nowhere")
    }

    /// Says whether it can run.
    fn runs(&self) -> bool {
        let builds = !["bad", "broken"].contains(&self.source);
        let reached = self.host != Some("taken.example.com");
        builds && reached && self.command != Some("explode")
    }

    fn content(&self) -> ApplicationContent {
        let mut content = content(self.source);
        let port = Port {
            name: name("main"),
            number: 3000,
            protocol: Protocol::Http,
            declared: true,
        };
        let mut web = Process {
            ports: vec![port],
            ..Process::default()
        };
        web.probes.readiness = self.probe.map(|port| {
            Probe::new(ProbeCheck::Http {
                path: "/".to_owned(),
                port: Some(name(port)),
            })
        });
        content.processes.insert(name("web"), web);
        if self.worker {
            let worker = Process {
                command: Some(worker()),
                ..Process::default()
            };
            content.processes.insert(name("worker"), worker);
        }
        if self.volume {
            let mount = VolumeMount {
                path: "/data".into(),
                size: None,
                process: name("web"),
            };
            content.volumes.insert(name("data"), mount);
        }
        content.routes.push(RouteSpec {
            hosts: self
                .host
                .map(|host| host.parse().unwrap())
                .into_iter()
                .collect(),
            path: self.path.to_owned(),
            process: Some(name("web")),
            port: None,
            strip: false,
            redirect: None,
        });
        content.rollout.max_surge = self.surge;
        content.rollout.max_unavailable = self.unavailable;
        content.rollout.deadline_seconds = 30;
        content.environment = variable("A", &self.variable.to_string());
        content.release_command = self.command.map(|line| Command::Shell(line.to_owned()));
        content
    }
}

fn worker() -> Command {
    Command::Exec(vec!["worker".to_owned()])
}

/// What ought to be.
#[derive(Clone, Debug, Default)]
struct Model {
    scale: u32,
    /// What was declared last, and set.
    wanted: Option<(Declared, Option<u8>)>,
    /// What ran last.
    current: Option<(Declared, Option<u8>)>,
    /// Every release that was healthy.
    healthy: Vec<(u64, (Declared, Option<u8>))>,
}

struct Walk {
    world: World,
    taps: Taps,
    running: Running,
    model: Model,
}

impl Walk {
    async fn begin() -> Self {
        let world = World::new();
        world
            .scheduler
            .behave_by_command(worker(), Behaviour::never_listening());
        let taps = Taps::new(&world, false, &Upset::NONE);
        let running = world.start(&world.tapped(&taps));
        let platform = &running.platform;
        platform.client().sync().await;
        let [tenant, project, environment] = ["default", "default", "production"].map(name);
        let made = platform.create_environment(&tenant, &project, &environment);
        made.await.unwrap();
        let holder = Declared {
            host: Some("taken.example.com"),
            ..plain("v1")
        };
        let accepted = deploy(platform, "holder", &holder, 1).await.unwrap();
        platform.settle(&key("holder"), &accepted).await.unwrap();
        Self {
            world,
            taps,
            running,
            model: Model::default(),
        }
    }

    /// Asks, waits, and compares.
    async fn step(&mut self, ask: &Ask) {
        let wanted = self.model.wanted.clone();
        let accepted = self.send(ask).await;
        let Some(accepted) = accepted else {
            self.model.wanted = wanted;
            return;
        };
        let platform = &self.running.platform;
        let settled = platform.settle(&key("web"), &accepted).await;
        quiet(&self.taps, Duration::from_secs(12)).await;
        if let Some(id) = &accepted.operation
            && !matches!(ask, Ask::Destroy)
        {
            let operation = platform.operation(&key("web").scope(), id).unwrap();
            let runs = self.model.wanted.as_ref().is_some_and(|(d, _)| d.runs());
            let good = runs || matches!(ask, Ask::Scale(_));
            let state = match good {
                true => OperationState::Succeeded,
                false => OperationState::Failed,
            };
            let status = operation.status;
            assert_eq!(status.state, state, "{}; {settled:?}", status.message);
            if good && !matches!(ask, Ask::Scale(_)) {
                self.model.current = self.model.wanted.clone();
                let release = (status.release.unwrap(), self.model.wanted.clone().unwrap());
                self.model.healthy.push(release);
            }
        }
        self.compare().await;
    }

    /// Sends a request, and says in the model what it asks for. `None`: it makes no sense, and is refused.
    async fn send(&mut self, ask: &Ask) -> Option<Accepted> {
        let platform = &self.running.platform;
        let (key, model) = (key("web"), &mut self.model);
        if !matches!(ask, Ask::Deploy(..)) && model.wanted.is_none() {
            return None;
        }
        let accepted = match ask {
            Ask::Deploy(declared, count) if !declared.is_valid() => {
                let deployed = deploy(platform, "web", declared, *count).await;
                assert!(deployed.is_err(), "what makes no sense is refused at once");
                return None;
            }
            Ask::Deploy(declared, count) => {
                let config = model.wanted.as_ref().and_then(|(_, config)| *config);
                if model.wanted.is_none() {
                    model.scale = *count;
                }
                model.wanted = Some((declared.clone(), config));
                deploy(platform, "web", declared, *count).await
            }
            Ask::Scale(count) => {
                let scaled = platform.scale(&key, BTreeMap::from([(name("web"), *count)]));
                let volume = model.wanted.as_ref().is_some_and(|(d, _)| d.volume);
                if volume && *count > 1 {
                    assert!(scaled.await.is_err(), "a volume has one writer");
                    return None;
                }
                model.scale = *count;
                scaled.await
            }
            Ask::Configure(value) => {
                model.wanted.as_mut().unwrap().1 = Some(*value);
                let set = variable("B", &value.to_string());
                platform.configure(&key, set, Vec::new()).await
            }
            Ask::Rollback(place) => {
                let place = place.checked_rem(model.healthy.len())?;
                let (version, content) = model.healthy[place].clone();
                model.wanted = Some(content);
                platform.rollback(&key, Some(version)).await
            }
            Ask::Restart => {
                let restarted = platform.restart(&key).await;
                if model.wanted != model.current {
                    assert!(restarted.is_err(), "what was refused is not restarted");
                    return None;
                }
                restarted
            }
            Ask::Destroy => {
                *model = Model::default();
                platform.destroy(&key).await
            }
        };
        Some(accepted.unwrap())
    }

    async fn compare(&self) {
        let state = State::of(&self.world).await;
        let prefix = "instance of default/default/production/web/";
        let mut found: Vec<&str> = state
            .essence
            .iter()
            .filter_map(|line| line.strip_prefix(prefix))
            .collect();
        found.sort_unstable();
        let mut wanted = Vec::new();
        if let Some((declared, _)) = &self.model.current {
            let count = if declared.volume {
                self.model.scale.min(1)
            } else {
                self.model.scale
            };
            let line = |process: &str| {
                format!(
                    "{process} of Some({:?}): Running, ready true",
                    declared.source
                )
            };
            wanted.extend((0..count).map(|_| line("web")));
            wanted.extend(declared.worker.then(|| line("worker")));
        }
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{:#?}\n{state:#?}", self.model);
        self.compare_routes(&state).await;
    }

    async fn compare_routes(&self, state: &State) {
        let current = self.model.current.as_ref();
        for host in ["web.localhost", "www.example.com"] {
            for path in ["/", "/api/x"] {
                let leads = current.filter(|(declared, _)| {
                    declared.host.unwrap_or("web.localhost") == host
                        && path.starts_with(declared.path)
                });
                let answer = self.world.ingress.request(host, path).await;
                let wanted =
                    leads.map(|(declared, _)| (200, format!("{} {path}", declared.source)));
                let wanted = wanted.unwrap_or_else(|| (404, "no such host or path".to_owned()));
                assert_eq!(
                    (answer.status, answer.body),
                    wanted,
                    "{host}{path}: {state:#?}"
                );
            }
        }
        let answer = self.world.ingress.request("taken.example.com", "/").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "v1 /"));
    }
}

async fn deploy(
    platform: &Platform,
    app: &str,
    declared: &Declared,
    count: u32,
) -> Result<Accepted> {
    let deployment = Deployment {
        content: declared.content(),
        scale: BTreeMap::from([(name("web"), count)]),
        autoscale: BTreeMap::new(),
    };
    platform.deploy(&key(app), deployment).await
}

/// What surely runs.
fn plain(source: &'static str) -> Declared {
    Declared {
        source,
        worker: false,
        volume: false,
        host: None,
        path: "/",
        probe: None,
        command: None,
        surge: 1,
        unavailable: 0,
        variable: 0,
    }
}

async fn walk(asks: Vec<Ask>) {
    let mut walk = Walk::begin().await;
    let empty = State::of(&walk.world).await.essence;
    for ask in &asks {
        walk.step(ask).await;
    }
    // And back again.
    walk.step(&Ask::Deploy(plain("v1"), 1)).await;
    walk.step(&Ask::Destroy).await;
    let mut left = State::of(&walk.world).await.essence;
    left.retain(|line| !line.contains("volume data") && !line.contains("record of data"));
    assert_eq!(left, empty);
    walk.running.kill().await;
}

proptest! {
    // Without PROPTEST_CASES as many as take a moment.
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..cases(12) })]

    #[test]
    fn what_runs_is_what_was_declared_whatever_came_before(asks in prop::collection::vec(ask(), 1..7)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(walk(asks));
    }
}

fn cases(usual: u32) -> ProptestConfig {
    let asked = ProptestConfig::default();
    let is_default = asked.cases == 256;
    ProptestConfig {
        cases: if is_default { usual } else { asked.cases },
        failure_persistence: None,
        ..asked
    }
}
