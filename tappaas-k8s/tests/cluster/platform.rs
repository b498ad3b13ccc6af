//! The whole platform over the cluster: objects, workloads and routes, driven by core's controllers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use kube::Client;
use tappaas_core::{
    Name, Scope,
    controller::Settings,
    memory,
    model::{
        ApplicationContent, ApplicationKey, Autoscale, Command, Condition, ConditionKind,
        EnvironmentSpec, Limits, Operation, OperationSpec, OperationState, Process, Rollout,
        Source, Truth,
    },
    platform::{Accepted, Backends, Deployment, Platform},
};
use tappaas_k8s::{
    GivenImages, Installation, KubernetesIngress, KubernetesScheduler, KubernetesStore, definitions,
};
use tappaas_testkit::conformance::{ingress::IngressFixture as _, stays, until};
use tokio::task::JoinHandle;

use crate::{
    cluster::{GROUP, apply, client, client_of, define, platform},
    node::{Node, WallClock},
    stage::{Stage, by_gateway},
};

const HOST: &str = "shop.example";

/// A platform whose controllers run, alone on the cluster.
struct World {
    platform: Platform,
    key: ApplicationKey,
    node: Node,
    stage: Arc<Stage>,
    controllers: JoinHandle<()>,
    cpu_millis: u32,
}

impl World {
    async fn new(environment: &str, cpu_millis: u32) -> Self {
        let (node, stage) = (Node::take().await, Stage::take(by_gateway()).await);
        let client = operator().await;
        let (clock, ids) = (Arc::new(WallClock), Arc::new(memory::Ids::new()));
        let settings = Node::settings();
        let scheduler =
            KubernetesScheduler::new(client.clone(), platform(), settings, clock.clone());
        let ingress = KubernetesIngress::connect(
            client.clone(),
            platform(),
            by_gateway(),
            Arc::new(WallClock),
        )
        .await;
        let ingress = ingress.unwrap();
        let store = KubernetesStore::new(client, GROUP, clock.clone(), ids.clone());
        let backends = Backends {
            store: Arc::new(store),
            builder: Arc::new(GivenImages),
            registry: Arc::new(memory::Registry::new()),
            scheduler: Arc::new(scheduler),
            ingress: Arc::new(ingress),
            volumes: Arc::new(memory::Volumes::new()),
        };
        let platform = Platform::new(backends, Settings::default(), clock, ids).unwrap();
        let running = platform.clone();
        let controllers = tokio::spawn(async move { running.run().await });
        platform.client().sync().await;
        let [tenant, project, environment, name] =
            ["platform", "shop", environment, "shop"].map(|name| Name::new(name).unwrap());
        platform
            .create_environment(&tenant, &project, &environment)
            .await
            .unwrap();
        let scope = Scope::environment(tenant, project, environment);
        Self {
            platform,
            key: ApplicationKey::new(&scope, name.as_str()).unwrap(),
            node,
            stage: Arc::new(stage),
            controllers,
            cpu_millis,
        }
    }

    /// What runs `words` of the programs' image.
    fn content(&self, words: &[&str]) -> ApplicationContent {
        let words = words.iter().map(|&word| word.to_owned());
        let mut web = Process {
            command: Some(Command::Exec(words.collect())),
            ..Process::default()
        };
        // Which the cluster writes in another way, such as `200M`.
        web.resources.cpu_millis = Some(self.cpu_millis);
        web.resources.memory = Some(200_000_000);
        let mut content: ApplicationContent = serde_json::from_value(serde_json::json!({
            "source": Source::Image {
                reference: "programs".to_owned(),
                image: self.node.image.clone(),
            },
            "routes": [{ "hosts": [HOST], "path": "/", "process": "web" }],
        }))
        .unwrap();
        content.processes.insert(web_name(), web);
        content.rollout = Rollout {
            deadline_seconds: 60,
            ..Rollout::default()
        };
        content
    }

    async fn deployed(&self, words: &[&str], count: u32) -> Operation {
        let deployment = Deployment {
            content: self.content(words),
            scale: BTreeMap::from([(web_name(), count)]),
            autoscale: BTreeMap::new(),
        };
        let accepted = self.platform.deploy(&self.key, deployment).await.unwrap();
        self.ended(&accepted).await
    }

    /// Limits the environment, and waits until the cluster keeps to it.
    async fn limited(&self, limits: Limits) {
        self.prepared().await;
        let scope = self.key.scope();
        let limited = self.platform.limit_environment(&scope, limits).await;
        limited.unwrap();
        self.prepared().await;
    }

    /// Waits until the environment has all that it wants.
    async fn prepared(&self) {
        let (project, name) = (self.key.scope().parent(), self.key.environment.as_str());
        let (project, client) = (project.unwrap(), self.platform.client());
        until("the environment is prepared", async || {
            let found = client.get::<EnvironmentSpec>(&project, name)?.unwrap();
            let kept = |one: &Condition| {
                one.status == Truth::True && one.observed_generation == found.metadata.generation
            };
            Ok(found.status.conditions.iter().any(kept).then_some(()))
        })
        .await
        .unwrap();
    }

    async fn ended(&self, accepted: &Accepted) -> Operation {
        let id = accepted.operation.clone().expect("something changed");
        until("the operation ends", async || {
            let operation = self
                .platform
                .client()
                .get::<OperationSpec>(&self.key.scope(), &id)?;
            Ok(operation.filter(|operation| operation.status.state.ended()))
        })
        .await
        .unwrap()
    }

    async fn healthy(&self, operation: Operation) {
        let status = operation.status;
        assert_eq!(
            status.state,
            OperationState::Succeeded,
            "{}",
            status.message
        );
    }

    async fn answers(&self, body: &str) {
        until(body, async || {
            let reply = self.stage.request(HOST, "/x").await;
            Ok(reply
                .is_ok_and(|it| it.status == 200 && it.body == body)
                .then_some(()))
        })
        .await
        .unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.controllers.abort();
    }
}

fn web_name() -> Name {
    Name::new("web").unwrap()
}

/// A client with the rights that an installed operator has.
async fn operator() -> Client {
    let admin = client().await;
    define(&admin, definitions(GROUP)).await;
    let installation = Installation {
        namespace: "platform-system".to_owned(),
        group: GROUP.to_owned(),
        image: "none.example/tappaas:1".to_owned(),
        arguments: Vec::new(),
        replicas: 0,
    };
    apply(&admin, &installation.objects()).await;
    client_of("platform-system:tappaas").await
}

/// Requests without a pause, until it is told to stop.
struct Load {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    lanes: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn new(stage: &Arc<Stage>) -> Self {
        let (over, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let lanes = (0..4).map(|_| {
            let (stage, over, asked) = (stage.clone(), over.clone(), asked.clone());
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    match stage.request(HOST, "/x").await {
                        Ok(reply) if reply.status == 200 => {}
                        other => failed.push(format!("{other:?}")),
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                failed
            })
        });
        Self {
            lanes: lanes.collect(),
            over,
            asked,
        }
    }

    /// Fails if any request did.
    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        for lane in self.lanes {
            let failed = lane.await.unwrap();
            let asked = self.asked.load(Ordering::Relaxed);
            assert!(
                failed.is_empty(),
                "{} of {asked} failed: {:?}",
                failed.len(),
                failed.first()
            );
        }
        assert!(
            self.asked.load(Ordering::Relaxed) > 100,
            "there was no load"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_deployed_replaced_refused_scaled_and_destroyed() {
    let world = World::new("whole", 50).await;
    let first = world
        .deployed(&["/program", "serve", "one", "1ms"], 2)
        .await;
    world.healthy(first).await;
    world.answers("one /x").await;

    let load = Load::new(&world.stage);
    let second = world
        .deployed(&["/program", "serve", "two", "1ms"], 2)
        .await;
    world.healthy(second).await;
    world.answers("two /x").await;

    let refused = world.deployed(&["/program", "exit", "3"], 2).await;
    assert_eq!(refused.status.state, OperationState::Failed);
    let message = refused.status.message;
    assert!(message.contains("exited with code 3"), "{message}");
    world.answers("two /x").await;

    let back = world.platform.rollback(&world.key, Some(1)).await.unwrap();
    let back = world.ended(&back).await;
    world.healthy(back).await;
    world.answers("one /x").await;

    let counts = BTreeMap::from([(web_name(), 3)]);
    let scaled = world.platform.scale(&world.key, counts).await.unwrap();
    let scaled = world.ended(&scaled).await;
    world.healthy(scaled).await;
    load.end().await;

    let destroyed = world.platform.destroy(&world.key).await.unwrap();
    let destroyed = world.ended(&destroyed).await;
    world.healthy(destroyed).await;
    let gone = until("nothing is left", async || {
        let left = world.node.left(&world.key).await;
        Ok(left.is_empty().then_some(()))
    });
    gone.await.unwrap();
    let reply = world.stage.request(HOST, "/x").await.unwrap();
    assert_eq!(reply.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_changed_by_hand_is_set_right() {
    let world = World::new("edited", 1000).await;
    let first = world
        .deployed(&["/program", "serve", "one", "1ms"], 1)
        .await;
    world.healthy(first).await;
    world.answers("one /x").await;
    for edit in [
        serde_json::json!({ "spec": { "replicas": 0 } }),
        serde_json::json!({ "spec": { "template": { "spec": { "containers": [
            { "name": "web", "image": "elsewhere.example/other:1" },
        ] } } } }),
    ] {
        world.node.edit_deployment(&world.key, &edit).await;
        let right = until("the deployment is as it was applied", async || {
            Ok(world.node.is_as_applied(&world.key).await.then_some(()))
        });
        right.await.unwrap();
        world.answers("one /x").await;
    }
    // What somebody adds is theirs.
    let before = world.node.spec_generation(&world.key).await;
    let beside = serde_json::json!({ "spec": { "template": { "spec": {
        "containers": [{ "name": "beside", "image": world.node.image.to_string(), "command": ["/program", "idle"],
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
        "volumes": [{ "name": "other", "emptyDir": {} }],
    } } } });
    world.node.edit_deployment(&world.key, &beside).await;
    stays("the edit is left alone", async || {
        let now = world.node.spec_generation(&world.key).await;
        Ok(now == (before.0 + 1, before.1.clone()))
    })
    .await
    .unwrap();
    world.answers("one /x").await;
    let destroyed = world.platform.destroy(&world.key).await.unwrap();
    let destroyed = world.ended(&destroyed).await;
    world.healthy(destroyed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_limits_of_its_environment_leave_no_room_for_is_said_until_there_is() {
    let world = World::new("limited", 50).await;
    let one = |most| Limits {
        instances: Some(most),
        ..Limits::default()
    };
    world.limited(one(1)).await;
    let deployment = Deployment {
        content: world.content(&["/program", "serve", "one", "1ms"]),
        scale: BTreeMap::from([(web_name(), 2)]),
        autoscale: BTreeMap::new(),
    };
    let begun = world.platform.deploy(&world.key, deployment).await;
    begun.unwrap();
    until("the application says so", async || {
        let message = world.platform.application(&world.key)?.status.message;
        Ok(message
            .contains("limits of its environment leave no room")
            .then_some(()))
    })
    .await
    .unwrap();
    world.limited(one(3)).await;
    // Which is tried at once; the first one the cluster tries again at its own pace.
    let next = world
        .deployed(&["/program", "serve", "two", "1ms"], 2)
        .await;
    world.healthy(next).await;
    world.answers("two /x").await;
    let destroyed = world.platform.destroy(&world.key).await.unwrap();
    let destroyed = world.ended(&destroyed).await;
    world.healthy(destroyed).await;
    world.limited(Limits::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaled_application_goes_by_the_count_that_its_autoscaler_sets() {
    let world = World::new("autoscaled", 50).await;
    let bounds = Autoscale {
        min: 2,
        max: 4,
        cpu_percent: 70,
    };
    let deploy = async |name: &str| {
        let deployment = Deployment {
            content: world.content(&["/program", "serve", name, "1ms"]),
            scale: BTreeMap::new(),
            autoscale: BTreeMap::from([(web_name(), bounds)]),
        };
        let accepted = world.platform.deploy(&world.key, deployment).await.unwrap();
        let deployed = world.ended(&accepted).await;
        world.healthy(deployed).await;
    };
    let ready = async |count: u32| {
        let ready = until("so many are wanted and ready", async || {
            let status = world.platform.application(&world.key)?.status;
            let web = status
                .processes
                .get(&web_name())
                .cloned()
                .unwrap_or_default();
            Ok(((web.wanted, web.ready) == (count, count)).then_some(()))
        });
        ready.await.unwrap();
    };
    deploy("one").await;
    ready(2).await;
    // Nothing measures, which is said.
    until("the condition says so", async || {
        let known = world.platform.application(&world.key)?.status.conditions;
        let mut known = known.into_iter();
        let told = known.find(|one| one.kind == ConditionKind::Autoscaled);
        Ok(told.filter(|told| told.reason == "Hindered" && told.message.contains("metrics")))
    })
    .await
    .unwrap();
    let three = serde_json::json!({ "spec": { "replicas": 3 } });
    world.node.edit_deployment(&world.key, &three).await;
    ready(3).await;
    deploy("two").await;
    world.answers("two /x").await;
    ready(3).await;
    let counts = BTreeMap::from([(web_name(), 1)]);
    let refused = world.platform.scale(&world.key, counts).await.unwrap_err();
    assert!(refused.to_string().contains("between 2 and 4"), "{refused}");
    // Nobody says it any more: the count is that of the scale again.
    let fixed = world
        .deployed(&["/program", "serve", "three", "1ms"], 1)
        .await;
    world.healthy(fixed).await;
    ready(1).await;
    let destroyed = world.platform.destroy(&world.key).await.unwrap();
    let destroyed = world.ended(&destroyed).await;
    world.healthy(destroyed).await;
    let gone = until("nothing is left", async || {
        let left = world.node.left(&world.key).await;
        Ok(left.is_empty().then_some(()))
    });
    gone.await.unwrap();
}
