use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tappaas_core::{Durable as _, Row};

use super::{
    census::{self, Census, Process, Shape},
    instances::Instance,
    load::Load,
    platform::{PATIENCE, Platform, Ran, text, until},
    sources,
    steps::Steps,
};

/// A platform whose server is killed again and again.
///
/// Its application `shop` is changed under load. `steady` is not, under load, too. A guest is bound to `steady`, and comes and goes.
#[derive(Debug)]
pub(super) struct Fire {
    platform: Platform,
    loads: [Load; 2],
    /// What the platform has on the machine when nothing disturbs it.
    shapes: BTreeMap<State, Shape>,
    usual: State,
    /// The supervisor and the process of `steady`, and the edge.
    steady: Instances,
    edge: Vec<Process>,
    /// Which page the source of `shop` has that was written last.
    page: usize,
    /// How many sources of it were written.
    edits: u64,
    kills: u64,
    /// What commands said whose server was killed, and how often.
    said: BTreeMap<String, u64>,
}

/// What is asked of a platform when its server is killed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Deploy,
    Scale(u64),
    SetVariable,
    RollBack,
    Destroy,
}

/// What a platform is told to have.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct State {
    /// Instances of `shop`.
    pub(super) instances: u64,
    pub(super) guest: bool,
}

type Instances = BTreeMap<String, Instance>;

/// A platform that has nothing to do.
#[derive(Debug)]
struct Rest {
    state: State,
    source: Value,
    current: u64,
    instances: Instances,
}

/// What a deploy leaves to be done is begun within this time after its end.
const LULL: Duration = Duration::from_millis(1500);
const PERIOD: Duration = Duration::from_millis(20);
/// How the names of guests begin.
const GUEST: &str = "guest-";
const PAGES: [&str; 2] = ["one", "two"];
const SHOP: &str = "shop.localhost";

impl Fire {
    /// A platform in each of these states once, the last one of which is the usual one.
    pub(super) fn begun(states: &[State]) -> Self {
        let platform = Platform::served();
        sources::write_server(&platform.dir("steady"), "steady", "", "");
        platform.ok(&["deploy", text(&platform.dir("steady"))]);
        let bound = "[bindings]\nsteady = \"steady\"\n";
        sources::write_server(&platform.dir("guest"), "guest", "", bound);
        for page in [1, 0] {
            write_shop(&platform, page, 0);
            platform.ok(&["deploy", text(&platform.dir("shop"))]);
        }
        let port = platform.http();
        let mut fire = Self {
            loads: [
                Load::on(port, "steady.localhost", &["steady"]),
                Load::on(port, SHOP, &PAGES),
            ],
            shapes: BTreeMap::new(),
            usual: states[states.len() - 1],
            steady: Instance::living(&platform.data(), "steady"),
            edge: platform.processes("__edge"),
            page: 0,
            edits: 0,
            kills: 0,
            said: BTreeMap::new(),
            platform,
        };
        assert_eq!((fire.steady.len(), fire.edge.len()), (1, 1));
        for state in states {
            fire.go_to(*state);
            let shape = fire.undisturbed();
            fire.shapes.insert(*state, shape);
        }
        fire
    }

    /// Deploys a changed source; how many steps that took.
    pub(super) fn steps(&mut self) -> u64 {
        let (mut steps, client, _killed) = self.begin(Action::Deploy);
        let count = steps.wait_for(u64::MAX).unwrap_err();
        client.join().unwrap().ok();
        count
    }

    /// Does something while the server is killed as `kill` does it and tells, and looks whether all is well once another one runs.
    pub(super) fn round(
        &mut self,
        action: Action,
        kill: impl FnOnce(&Platform, &mut Steps) -> String,
    ) {
        let before = self.rest("the last round");
        let (mut steps, client, killed) = self.begin(action);
        let what = kill(&self.platform, &mut steps);
        drop(killed);
        self.kills += 1;
        let then = Instance::living(&self.platform.data(), "shop");
        self.platform.serve_again();
        let ran = client.join().unwrap();
        println!("killed at {what}: {}", ran.summary());
        let after = self.rest(&what);
        self.nothing_was_restarted(&then, &after);
        let happened = action.happened(&before, &after);
        self.was_told_the_truth(&ran, happened);
        if let Action::Deploy = action {
            let page = self.page + usize::from(!happened);
            self.platform.answers(SHOP, PAGES[page % 2]);
        }
        self.platform
            .ok(&["deploy", text(&self.platform.dir("shop"))]);
        self.platform.answers(SHOP, PAGES[self.page]);
        self.go_to(self.usual);
        for load in &self.loads {
            load.none_failed_yet();
        }
    }

    /// Destroys and stops it all: nothing is left on the machine, nor of what applications have in the store.
    pub(super) fn end(self) {
        for (said, times) in &self.said {
            println!("{times} × {said}");
        }
        println!("{} kills", self.kills);
        self.loads.into_iter().for_each(Load::none_failed);
        let platform = self.platform;
        for name in names(&platform.json(&["apps"])) {
            platform.ok(&["destroy", &name]);
        }
        until("no object of theirs is left", || {
            let kinds = ["Application", "Build", "HostClaim", "Release"];
            let count = |kind| platform.figure(&format!("tappaas_objects{{kind=\"{kind}\"}}"));
            kinds.map(count) == [0; 4]
        });
        platform.ok(&["stop", "--apps"]);
        assert!(platform.server_ends());
        platform.leaves_nothing();
        let rows = rows_of_applications(&platform);
        assert!(rows.is_empty(), "left in the store: {rows:#?}");
    }

    /// Begins to do something; the command ends by itself, or with the server. Steps end a while after it, or with the kill.
    fn begin(&mut self, action: Action) -> (Steps, thread::JoinHandle<Ran>, mpsc::Sender<()>) {
        let platform = &self.platform;
        let shop = platform.dir("shop");
        let value = format!("GREETING=number {}", self.kills);
        let count = |count: u64| format!("web={count}");
        let words = match action {
            Action::Deploy => {
                self.page = 1 - self.page;
                self.edits += 1;
                write_shop(platform, self.page, self.edits);
                vec!["deploy".to_owned(), text(&shop).to_owned()]
            }
            Action::Scale(number) => vec!["scale".to_owned(), "shop".to_owned(), count(number)],
            Action::SetVariable => ["config", "set", "shop", &value]
                .map(str::to_owned)
                .to_vec(),
            Action::RollBack => ["rollback", "shop"].map(str::to_owned).to_vec(),
            Action::Destroy => vec![
                "destroy".to_owned(),
                guest(&platform.json(&["apps"])).unwrap(),
            ],
        };
        let steps = Steps::of(platform);
        let end = steps.end().to_owned();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let command = platform.begin(&words, "");
        let (killed, was_killed) = mpsc::channel();
        let client = thread::spawn(move || {
            let ran = command.end();
            if was_killed.recv_timeout(LULL) == Err(mpsc::RecvTimeoutError::Timeout) {
                fs::write(end, "").unwrap();
            }
            ran
        });
        (steps, client, killed)
    }

    /// Brings the platform to a state, by commands that must succeed.
    fn go_to(&self, state: State) {
        let platform = &self.platform;
        platform.ok(&["scale", "shop", &format!("web={}", state.instances)]);
        match guest(&platform.json(&["apps"])) {
            // Another one each time: what is left of one shows even when all is destroyed in the end.
            None if state.guest => {
                let (folder, name) = (platform.dir("guest"), format!("{GUEST}{}", self.kills));
                platform.ok(&["deploy", text(&folder), "--name", &name]);
            }
            Some(name) if !state.guest => drop(platform.ok(&["destroy", &name])),
            _ => {}
        }
    }

    /// Waits until nothing is to be done, and what is on the machine is what is there without any disturbance.
    #[track_caller]
    fn rest(&self, since: &str) -> Rest {
        let started = Instant::now();
        loop {
            match self.look() {
                Ok(rest) => return rest,
                Err(why) => assert!(started.elapsed() < PATIENCE, "no rest since {since}: {why}"),
            }
            thread::sleep(PERIOD);
        }
    }

    fn look(&self) -> Result<Rest, String> {
        let rest = self.busy_with()?;
        let wanted = self.shapes.get(&rest.state);
        let wanted = wanted.ok_or_else(|| format!("it is in the state {:?}", rest.state))?;
        match census::difference(wanted, &Census::shape(&self.platform.data())) {
            // Only now are those gone that were on their way out.
            None => Ok(Rest {
                instances: Instance::living(&self.platform.data(), "shop"),
                ..rest
            }),
            Some(difference) => Err(difference),
        }
    }

    /// What it still has to do, or how it rests.
    fn busy_with(&self) -> Result<Rest, String> {
        let listed = self.platform.json(&["apps"]);
        for application in items(&listed) {
            let process = &application["processes"]["web"];
            let rests = application["phase"] == "running"
                && application["generation"] == application["observed"]
                && application["current"] == application["latest"]
                && process["ready"] == process["wanted"];
            if !rests {
                return Err(format!("{application:#}"));
            }
        }
        for figure in [
            "tappaas_operations{state=\"running\"}",
            "tappaas_builds{phase=\"queued\"}",
            "tappaas_builds{phase=\"running\"}",
            "tappaas_edge_draining_in_flight",
        ] {
            match self.platform.figure(figure) {
                0 => {}
                number => return Err(format!("{figure} is {number}")),
            }
        }
        let shop = items(&listed).iter().find(|one| one["name"] == "shop");
        let shop = shop.expect("it is never destroyed");
        Ok(Rest {
            state: State {
                instances: shop["processes"]["web"]["wanted"].as_u64().unwrap(),
                guest: guest(&listed).is_some(),
            },
            source: shop["source"].clone(),
            current: shop["current"].as_u64().unwrap(),
            instances: Instances::new(),
        })
    }

    /// What the platform has once it rests, and nothing has changed for a while.
    fn undisturbed(&self) -> Shape {
        let mut last = (Shape::new(), Instant::now());
        until("a platform that nobody disturbs rests", || {
            let shape = Census::shape(&self.platform.data());
            if self.busy_with().is_err() || shape != last.0 {
                last = (shape, Instant::now());
            }
            last.1.elapsed() > LULL
        });
        last.0
    }

    /// What ran when the server was killed, and is wanted still, is what runs now. So are a neighbour, and the edge.
    fn nothing_was_restarted(&self, then: &Instances, after: &Rest) {
        let platform = &self.platform;
        assert_eq!(Instance::living(&platform.data(), "steady"), self.steady);
        assert_eq!(platform.processes("__edge"), self.edge);
        for (id, instance) in &after.instances {
            assert_eq!(instance.release, after.current, "{instance:?}");
            let before = then.get(id).unwrap_or(instance);
            assert_eq!(instance, before, "it was restarted");
        }
        let current = |one: &&Instance| one.release == after.current;
        let ran = then.values().filter(current).count();
        let kept = after.instances.keys().filter(|id| then.contains_key(*id));
        let wanted = usize::try_from(after.state.instances).unwrap();
        assert_eq!(after.instances.len(), wanted);
        assert_eq!(
            kept.count(),
            ran.min(wanted),
            "instances that ran already were replaced: {then:#?}\n{after:#?}"
        );
    }

    /// A command whose server died says that it is done only if it is, and otherwise what went wrong.
    fn was_told_the_truth(&mut self, ran: &Ran, happened: bool) {
        let accepted = ran.stderr.contains("lost the server while it worked");
        assert!(
            happened || ran.code != 0 && !accepted,
            "it did not happen: {ran:#?}"
        );
        assert!(
            ran.code == 0 || ran.code == 1 && !ran.stderr.is_empty(),
            "{ran:#?}"
        );
        let said = census::without_names(&ran.summary());
        *self.said.entry(said).or_default() += 1;
    }
}

impl Action {
    /// Whether it was taken on before the kill: then it was carried out after it.
    fn happened(self, before: &Rest, after: &Rest) -> bool {
        match self {
            Self::Deploy => after.source != before.source,
            Self::Scale(instances) => after.state.instances == instances,
            Self::SetVariable | Self::RollBack => after.current != before.current,
            Self::Destroy => !after.state.guest,
        }
    }
}

/// A source that was never deployed before.
fn write_shop(platform: &Platform, page: usize, edit: u64) {
    let folder = platform.dir("shop");
    let two = "[processes.web]\nreplicas = 2\n";
    sources::write_server(&folder, PAGES[page], "", two);
    fs::write(folder.join("edit"), edit.to_string()).unwrap();
}

fn items(listed: &Value) -> &[Value] {
    listed["items"].as_array().unwrap()
}

fn names(listed: &Value) -> Vec<String> {
    let names = items(listed)
        .iter()
        .map(|one| one["name"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

fn guest(listed: &Value) -> Option<String> {
    let mut names = names(listed).into_iter();
    names.find(|name| name.starts_with(GUEST))
}

/// What the store of a server that has ended keeps for applications and their builds.
fn rows_of_applications(platform: &Platform) -> Vec<String> {
    let config = tappaas::store::Config::new(platform.data().join("store"));
    let parts = (Arc::new(tappaas::SystemClock), Arc::new(tappaas::RandomIds));
    let store = tappaas::store::Embedded::open(config, parts.0, parts.1).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tables = ["builder.queue", "local.slots", "local.workloads"].into_iter();
    let rows = tables.flat_map(|table| {
        let rows = runtime.block_on(store.scan(table, b"", None, 100)).unwrap();
        let shown = move |row: Row| format!("{table}: {}", row.key.escape_ascii());
        rows.into_iter().map(shown)
    });
    rows.collect()
}
