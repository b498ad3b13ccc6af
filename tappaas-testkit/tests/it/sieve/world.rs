//! What outlives a platform: its backends in memory, with taps on every call.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt as _;
use tappaas_core::{
    Kind,
    controller::Settings,
    memory::{self, Network},
    platform::{Backends, Platform},
};
use tappaas_testkit::faulty::{Call, Faults, Faulty};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

use super::{
    lagging::Lagging,
    scenario,
    upset::{Backend, Upset},
};

/// The host that application `web` answers at.
pub(crate) const HOST: &str = "web.localhost";

/// How often everything is looked at; far less than in earnest, so that what waits for it ends soon.
const RESYNC: Duration = Duration::from_secs(20);

/// Backends in memory.
pub(crate) struct World {
    pub(crate) clock: Arc<memory::Clock>,
    ids: Arc<memory::Ids>,
    pub(crate) store: Arc<memory::Store>,
    lagging: Arc<Lagging>,
    pub(crate) scheduler: Arc<memory::Scheduler>,
    pub(crate) ingress: Arc<memory::Ingress>,
    pub(crate) volumes: Arc<memory::Volumes>,
    registry: Arc<memory::Registry>,
}

/// A platform with its controllers running.
pub(crate) struct Running {
    pub(crate) platform: Platform,
    controllers: JoinHandle<()>,
}

impl Running {
    /// Ends the platform as a crash would: nothing of it goes on.
    pub(crate) async fn kill(self) {
        self.controllers.abort();
        let _ = self.controllers.await;
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(memory::Clock::new());
        let ids = Arc::new(memory::Ids::new());
        let (network, volumes) = (Network::new(), memory::Volumes::new());
        let scheduler = memory::Scheduler::new(clock.clone(), &network, &volumes);
        for (_, _, command, behaviour) in scenario::sources() {
            scheduler.behave_by_command(command, behaviour);
        }
        for (command, behaviour) in scenario::commands() {
            scheduler.behave_by_command(command, behaviour);
        }
        let store = Arc::new(memory::Store::new(clock.clone(), ids.clone()));
        Self {
            lagging: Arc::new(Lagging::new(&store)),
            store,
            scheduler: Arc::new(scheduler),
            ingress: Arc::new(memory::Ingress::new(clock.clone(), &network)),
            volumes: Arc::new(volumes),
            registry: Arc::new(memory::Registry::new()),
            clock,
            ids,
        }
    }

    /// Backends whose calls go through taps. The builder is made anew: it is part of no platform, but its registry is tapped.
    pub(crate) fn tapped(&self, taps: &Taps) -> Backends {
        let registry = tap(&self.registry, taps, Backend::Registry);
        let builder = memory::Builder::new(self.clock.clone(), registry.clone());
        for (source, recipe, _, _) in scenario::sources() {
            builder.set_recipe(source, recipe);
        }
        Backends {
            store: tap(&self.lagging, taps, Backend::Store),
            builder: tap(&Arc::new(builder), taps, Backend::Builder),
            registry,
            scheduler: tap(&self.scheduler, taps, Backend::Scheduler),
            ingress: tap(&self.ingress, taps, Backend::Ingress),
            volumes: tap(&self.volumes, taps, Backend::Volumes),
        }
    }

    /// Starts a platform.
    pub(crate) fn start(&self, backends: &Backends) -> Running {
        let settings = Settings {
            resync: RESYNC,
            ..Settings::default()
        };
        let (clock, ids) = (self.clock.clone(), self.ids.clone());
        let platform = Platform::new(backends.clone(), settings, clock, ids).unwrap();
        let running = platform.clone();
        let controllers = tokio::spawn(async move { running.run().await });
        Running {
            platform,
            controllers,
        }
    }
}

fn tap<T: ?Sized>(inner: &Arc<T>, taps: &Taps, backend: Backend) -> Arc<Faulty<T>> {
    Arc::new(Faulty::new(inner.clone(), &taps.faults[&backend]))
}

/// What happens at the calls of one run.
pub(crate) struct Taps {
    pub(crate) faults: BTreeMap<Backend, Arc<Faults>>,
    pub(crate) watch: Arc<Watch>,
}

/// What is seen of one run.
pub(crate) struct Watch {
    ingress: Arc<memory::Ingress>,
    lagging: Arc<Lagging>,
    behind: Option<(Kind, usize)>,
    steady: bool,
    seen: Mutex<Seen>,
    /// Somebody has to end the platform now.
    pub(crate) died: Notify,
}

#[derive(Default)]
struct Seen {
    answered: bool,
    violations: Vec<String>,
    changed: Option<Instant>,
    /// Who dies is told once.
    dead: bool,
}

impl Taps {
    /// Taps at which one thing goes wrong.
    pub(crate) fn new(world: &World, steady: bool, upset: &Upset) -> Self {
        let watch = Arc::new(Watch {
            ingress: world.ingress.clone(),
            lagging: world.lagging.clone(),
            behind: upset.behind(),
            steady,
            seen: Mutex::default(),
            died: Notify::new(),
        });
        let each = Backend::ALL.map(|backend| {
            let (watch, death) = (watch.clone(), upset.death(backend));
            let faults = Faults::script(upset.script(backend)).hooked(move |call| {
                let watch = watch.clone();
                async move { watch.pass(backend, call, death).await }
            });
            (backend, Arc::new(faults))
        });
        Self {
            faults: each.into(),
            watch,
        }
    }

    /// How often each verb was called.
    pub(crate) fn counts(&self) -> Vec<(Backend, &'static str, u64)> {
        let faults = self.faults.iter();
        let each = faults.flat_map(|(backend, faults)| {
            let counts = faults.counts().into_iter();
            counts.map(|(verb, count)| (*backend, verb, count))
        });
        each.collect()
    }
}

impl Watch {
    /// A call on its way: takes a moment, so that others get in between, and may be the last that its caller makes.
    async fn pass(&self, backend: Backend, call: Call, death: Option<(&'static str, u64, bool)>) {
        if !call.done {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if backend.changes(call.verb) {
            self.seen.lock().unwrap().changed = Some(Instant::now());
            self.look(&format!("{backend:?} {call:?}"));
        }
        if backend == Backend::Volumes && call.verb == "remove" {
            self.accuse("a volume is removed");
        }
        if death == Some((call.verb, call.number, call.done)) && !self.dead() {
            if let Some((kind, ago)) = self.behind {
                self.lagging.fall_behind(kind, ago);
            }
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn dead(&self) -> bool {
        std::mem::replace(&mut self.seen.lock().unwrap().dead, true)
    }

    /// Sends a request: who answered once has to answer for ever.
    pub(crate) fn look(&self, at: &str) {
        if !self.steady {
            return;
        }
        let answer = self.ingress.request(HOST, "/").now_or_never();
        let good = answer.as_ref().is_some_and(|answer| answer.status == 200);
        let answered = self.seen.lock().unwrap().answered;
        if answered && !good {
            self.accuse(&format!("at {at} it answers {answer:?}"));
        }
        self.seen.lock().unwrap().answered |= good;
    }

    fn accuse(&self, what: &str) {
        let mut seen = self.seen.lock().unwrap();
        seen.violations.push(what.to_owned());
    }

    /// What must not have happened, but did.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.seen.lock().unwrap().violations.clone()
    }

    /// How long nothing has been written any more.
    pub(crate) fn quiet(&self) -> Duration {
        let changed = self.seen.lock().unwrap().changed;
        changed.map_or(Duration::MAX, |changed| changed.elapsed())
    }
}
