//! What the in-memory backends do beyond their traits' contracts; those are held by the conformance suites.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use tappaas_core::{
    Digest, Name,
    backend::{
        Action, Endpoint, Frontend, Image, IngressProvider as _, InstanceState, ReleaseSet, Route,
        RouteId, Scheduler as _, Target, Template, Track, Workload, WorkloadId, WorkloadStatus,
    },
    memory::{Behaviour, Clock, Ingress, Network, Scheduler, Volumes},
    model::{Port, Probes, Resources, RestartPolicy, Stop, User},
    placement::Constraints,
};

fn template(image: &str) -> Template {
    Template {
        image: Image {
            repository: "app".parse().unwrap(),
            digest: Digest::of(image),
        },
        command: None,
        environment: BTreeMap::new(),
        ports: vec![Port::undeclared()],
        resources: Resources::default(),
        probes: Probes::default(),
        stop: Stop::default(),
        restart: RestartPolicy::Always,
        user: User::Unprivileged,
        mounts: Vec::new(),
        peers: Vec::new(),
        placement: Constraints::default(),
    }
}

fn workload(generation: u64, counts: &[(u64, u32)]) -> Workload {
    let set = |(release, count): &(u64, u32)| ReleaseSet {
        release: *release,
        count: *count,
        retiring: Default::default(),
        template: template(&format!("image {release}")),
    };
    Workload {
        id: WorkloadId {
            application: "default/default/production/hello".parse().unwrap(),
            process: Name::new("web").unwrap(),
            track: Track::Stable,
        },
        generation,
        releases: counts.iter().map(set).collect(),
        rollout: None,
        autoscale: None,
    }
}

struct World {
    network: Network,
    scheduler: Scheduler,
    ingress: Ingress,
}

impl World {
    fn new() -> Self {
        let (clock, network) = (Arc::new(Clock::new()), Network::new());
        Self {
            scheduler: Scheduler::new(clock.clone(), &network, &Volumes::new()),
            ingress: Ingress::new(clock, &network),
            network,
        }
    }

    async fn until(&self, condition: impl Fn(&WorkloadStatus) -> bool) -> WorkloadStatus {
        let id = workload(1, &[]).id;
        let waiting = async {
            let mut changes = self.scheduler.watch().await.unwrap();
            loop {
                if let Some(status) = self.scheduler.observe(&id).await.unwrap()
                    && condition(&status)
                {
                    return status;
                }
                changes.next().await.unwrap();
            }
        };
        let hour = Duration::from_secs(3600);
        tokio::time::timeout(hour, waiting).await.unwrap()
    }
}

fn ready(status: &WorkloadStatus) -> Vec<Endpoint> {
    let ready = status.instances.iter().filter(|instance| instance.ready);
    ready
        .flat_map(|instance| instance.endpoints.values().cloned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_reaches_an_instance_and_is_answered_by_its_release() {
    let world = World::new();
    world
        .scheduler
        .apply(&workload(1, &[(7, 2)]))
        .await
        .unwrap();
    let status = world.until(|status| ready(status).len() == 2).await;
    let route = Route {
        id: RouteId {
            application: workload(1, &[]).id.application,
            name: Name::new("main").unwrap(),
        },
        generation: 1,
        frontend: Frontend::Http {
            hosts: vec!["hello.localhost".parse().unwrap()],
            path: "/".to_owned(),
        },
        action: Action::Forward {
            targets: vec![Target {
                weight: 1,
                endpoints: ready(&status),
            }],
            strip_prefix: false,
            hold: Duration::ZERO,
        },
    };
    world.ingress.apply(&route).await.unwrap();
    let answer = world.ingress.request("hello.localhost", "/a").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "7 /a"));
}

#[tokio::test(start_paused = true)]
async fn instances_behave_as_their_image_says() {
    let world = World::new();
    let image = |release: u64| Digest::of(format!("image {release}"));
    let scheduler = &world.scheduler;
    scheduler.behave_by_image(image(1), Behaviour::listening_after(Duration::from_secs(2)));
    scheduler.behave_by_image(image(2), Behaviour::exiting(3));
    scheduler.behave_by_image(image(3), Behaviour::never_listening());
    scheduler
        .apply(&workload(1, &[(1, 1), (2, 1), (3, 1)]))
        .await
        .unwrap();
    let status = world
        .until(|status| status.instances[1].state == InstanceState::CrashLoop)
        .await;
    let status = match ready(&status).is_empty() {
        true => world.until(|status| !ready(status).is_empty()).await,
        false => status,
    };
    let [late, exiting, deaf] = status.instances.as_slice() else {
        panic!("{status:?}");
    };
    assert!(late.ready);
    assert_eq!(exiting.exit.as_ref().unwrap().code, Some(3));
    assert!(!deaf.ready);
    assert_eq!(deaf.reason.as_deref(), Some("nothing listens on port 8080"));
    scheduler.remove(&workload(1, &[]).id).await.unwrap();
    let gone = async {
        let mut changes = scheduler.watch().await.unwrap();
        while !scheduler.list().await.unwrap().is_empty() {
            changes.next().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone)
        .await
        .unwrap();
    assert_eq!(format!("{:?}", world.network), "{}");
}

#[tokio::test(start_paused = true)]
async fn a_higher_priority_takes_the_room_of_a_lower_one_once_that_has_stopped() {
    let world = World::new();
    let mut node = world.scheduler.nodes().await.unwrap().remove(0);
    node.offer.capacity.instances = 1;
    world.scheduler.set_nodes(vec![node]);
    let slow = Behaviour {
        stop: Some(Duration::from_secs(5)),
        ..Behaviour::default()
    };
    world.scheduler.behave_by_image(Digest::of("image 1"), slow);
    let low = workload(1, &[(1, 1)]);
    world.scheduler.apply(&low).await.unwrap();
    world.until(|status| ready(status).len() == 1).await;
    let mut high = workload(1, &[(2, 1)]);
    high.id.process = Name::new("important").unwrap();
    high.releases[0].template.placement.priority = 1;
    world.scheduler.apply(&high).await.unwrap();
    let waiting = world.scheduler.observe(&high.id).await.unwrap().unwrap();
    assert!(waiting.instances.is_empty(), "{waiting:?}");
    assert_eq!(waiting.unplaced[0].missing, 1);
    let evicted = world.until(|status| status.instances.is_empty()).await;
    assert_eq!(evicted.unplaced[0].missing, 1);
    let placed = world.scheduler.observe(&high.id).await.unwrap().unwrap();
    assert_eq!((placed.instances.len(), placed.unplaced.len()), (1, 0));
}
