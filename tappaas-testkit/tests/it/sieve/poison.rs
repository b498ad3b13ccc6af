//! One object that nobody can make sense of: everybody else's work goes on, it is told of, and nothing turns in circles.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use tappaas_core::{
    Kind, Metadata, Object, Precondition, Result, Scope, Store as _,
    backend::{IngressCapabilities, IngressProvider, Route, RouteId, RouteStatus, Signal},
    model::{Host, OperationState},
    platform::{Deployment, Platform},
};

use super::{
    scenario::{content, key, name},
    upset::Upset,
    world::{Taps, World},
};

/// An object that the store takes and no controller understands.
fn object(kind: Kind, scope: &Scope, name: &str, spec: Value) -> Object {
    let metadata = Metadata::new(scope, name);
    Object {
        api_version: "tappaas.dev/v1".to_owned(),
        kind,
        metadata,
        spec,
        status: Value::Null,
    }
}

/// Objects of every kind with specs that nobody can read, some in the place of one that application `mine` needs.
fn poison() -> Vec<Object> {
    let scope = key("web").scope();
    let project = scope.parent().unwrap();
    let junk = || json!({ "application": "mine", "version": "one", "number": [], "content": 7 });
    let long = "a".repeat(60);
    let mut bound = serde_json::to_value(content("v1")).unwrap();
    bound["bindings"] = json!({ "web": { "application": "web", "process": "web" } });
    let host: Host = "mine.localhost".parse().unwrap();
    vec![
        object(Kind::Application, &scope, "junk", junk()),
        object(Kind::Application, &scope, "list", json!([1, 2])),
        // A good spec under a name that no application can have, and bound to one that is well.
        object(
            Kind::Application,
            &scope,
            &long,
            json!({ "content": bound }),
        ),
        object(Kind::Build, &scope, "mine-1", junk()),
        object(
            Kind::Build,
            &scope,
            "web-0",
            json!({ "application": "web" }),
        ),
        object(Kind::DomainPool, &Scope::cluster(), "junk", json!({})),
        object(Kind::Environment, &project, "junk", json!("no")),
        object(Kind::HostClaim, &Scope::cluster(), &host.claim(), junk()),
        object(Kind::Operation, &scope, "junk", junk()),
        object(
            Kind::Operation,
            &scope,
            "webs",
            json!({ "application": "web", "verb": "fly" }),
        ),
        object(Kind::Project, &project.parent().unwrap(), "junk", json!([])),
        object(Kind::Release, &scope, "junk-1", junk()),
        object(
            Kind::Release,
            &scope,
            "other-1",
            json!({ "application": "other" }),
        ),
        object(
            Kind::Tenant,
            &Scope::cluster(),
            "junk",
            json!({ "limits": 3 }),
        ),
        object(Kind::Volume, &scope, "junk", junk()),
    ]
}

/// Runs `test` in paused time, and returns what was logged.
fn logged(test: impl Future<Output = ()>) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(move || writer.clone())
        .finish();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    tracing::subscriber::with_default(subscriber, || runtime.block_on(test));
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Deploys, scales and destroys an application, which must go well.
async fn lives(platform: &Platform, app: &str) {
    let key = key(app);
    let deployment = |source: &str| Deployment {
        content: content(source),
        scale: BTreeMap::from([(name("web"), 2)]),
        autoscale: BTreeMap::new(),
    };
    for source in ["v1", "v2"] {
        let accepted = platform.deploy(&key, deployment(source)).await.unwrap();
        platform.settle(&key, &accepted).await.unwrap();
    }
    let counts = BTreeMap::from([(name("web"), 3)]);
    let accepted = platform.scale(&key, counts).await.unwrap();
    platform.settle(&key, &accepted).await.unwrap();
    let accepted = platform.deploy(&key, deployment("slow")).await.unwrap();
    let operation = accepted.operation.unwrap();
    platform.cancel(&key.scope(), &operation).await.unwrap();
}

async fn make_environment(platform: &Platform) {
    platform.client().sync().await;
    let [tenant, project, environment] = ["default", "default", "production"].map(name);
    let made = platform.create_environment(&tenant, &project, &environment);
    made.await.unwrap();
}

fn calls(taps: &Taps) -> u64 {
    taps.counts().into_iter().map(|(_, _, count)| count).sum()
}

#[test]
fn an_object_that_nobody_can_read_harms_nobody_else() {
    let log = logged(async {
        let world = World::new();
        let taps = Taps::new(&world, false, &Upset::NONE);
        let running = world.start(&world.tapped(&taps));
        let platform = &running.platform;
        make_environment(platform).await;
        lives(platform, "web").await;
        let hour = Duration::from_secs(3600);
        let before = calls(&taps);
        tokio::time::sleep(hour).await;
        let usual = calls(&taps) - before;

        for object in poison() {
            world.store.put(object, Precondition::Absent).await.unwrap();
        }
        lives(platform, "other-web").await;
        lives(platform, "web").await;
        // This one wants what is in its way, and gets no further.
        let stuck = Deployment {
            content: content("v1"),
            scale: BTreeMap::new(),
            autoscale: BTreeMap::new(),
        };
        platform.deploy(&key("mine"), stuck).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        let before = calls(&taps);
        tokio::time::sleep(hour).await;
        let poisoned = calls(&taps) - before;
        assert!(
            poisoned < 4 * usual,
            "{poisoned} calls an hour, not {usual}"
        );
        lives(platform, "third").await;
        running.kill().await;

        // A platform that finds them when it starts is no worse off.
        let running = world.start(&world.tapped(&taps));
        running.platform.client().sync().await;
        lives(&running.platform, "fourth").await;
        running.kill().await;
    });
    for told in [
        "production/junk",
        "production/list",
        "production/mine",
        "aaaa",
    ] {
        assert!(log.contains(told), "{told} is not told of: {log}");
    }
}

/// An ingress that panics about one application.
#[derive(Debug)]
struct Panicking(Arc<dyn IngressProvider>);

#[async_trait]
impl IngressProvider for Panicking {
    fn capabilities(&self) -> IngressCapabilities {
        self.0.capabilities()
    }

    async fn apply(&self, route: &Route) -> Result<()> {
        self.0.apply(route).await
    }

    async fn observe(&self, id: &RouteId) -> Result<Option<RouteStatus>> {
        assert_ne!(id.application, key("poison"), "not this one");
        self.0.observe(id).await
    }

    async fn list(&self) -> Result<Vec<RouteId>> {
        self.0.list().await
    }

    async fn remove(&self, id: &RouteId) -> Result<()> {
        self.0.remove(id).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, Signal>> {
        self.0.watch().await
    }
}

#[test]
fn an_application_that_makes_its_controller_panic_harms_nobody_else() {
    let log = logged(async {
        let world = World::new();
        let taps = Taps::new(&world, false, &Upset::NONE);
        let mut backends = world.tapped(&taps);
        backends.ingress = Arc::new(Panicking(backends.ingress));
        let running = world.start(&backends);
        let platform = &running.platform;
        make_environment(platform).await;
        let deployment = Deployment {
            content: content("v1"),
            scale: BTreeMap::new(),
            autoscale: BTreeMap::new(),
        };
        let poison = platform.deploy(&key("poison"), deployment).await.unwrap();
        lives(platform, "web").await;
        let before = calls(&taps);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        // Once a minute at most by itself, and whenever everything is looked at.
        let count = calls(&taps) - before;
        assert!(count < 20_000, "{count} calls in an hour");
        lives(platform, "other").await;
        let operation = platform.operation(&key("poison").scope(), &poison.operation.unwrap());
        assert_eq!(operation.unwrap().status.state, OperationState::Running);
        running.kill().await;
    });
    let told = |line: &str| line.contains("production/poison") && line.contains("panicked");
    assert!(log.lines().any(told), "{log}");
}
