use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*, sample::select};
use tappaas_core::{
    Name,
    backend::{InstanceId, Node, Track, WorkloadId},
    model::Resources,
    placement::{
        Capacity, Constraints, Effect, Instance, Occupant, Offer, Spread, Taint, Toleration,
    },
};

/// What placement is asked about.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) running: Vec<Occupant>,
    pub(super) pending: Vec<Instance>,
}

impl World {
    /// This world, and the same one in another order.
    pub(super) fn and_shuffled(self) -> impl Strategy<Value = (Self, Self)> {
        let nodes = Just(self.nodes.clone()).prop_shuffle();
        let running = Just(self.running.clone()).prop_shuffle();
        let pending = Just(self.pending.clone()).prop_shuffle();
        (nodes, running, pending).prop_map(move |(nodes, running, pending)| {
            let shuffled = Self {
                nodes,
                running,
                pending,
            };
            (self.clone(), shuffled)
        })
    }
}

/// A ready node with much room.
pub(super) fn node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        offer: Offer {
            capacity: Capacity {
                cpu_millis: 1 << 30,
                memory: 1 << 40,
                instances: 1 << 20,
            },
            ..Offer::default()
        },
        ready: true,
        notes: Vec::new(),
    }
}

/// An instance that may go anywhere.
pub(super) fn instance(id: &str, application: &str) -> Instance {
    Instance {
        id: InstanceId(id.to_owned()),
        workload: WorkloadId {
            application: format!("t/p/e/{application}").parse().unwrap(),
            process: Name::new("web").unwrap(),
            track: Track::Stable,
        },
        constraints: Constraints::default(),
    }
}

/// Small worlds in which everything happens often: scarce room, few applications, few labels.
pub(super) fn any(nodes_max: usize, instances_max: usize) -> impl Strategy<Value = World> {
    let instances = vec(
        (
            constraints(),
            application(),
            option::of(0..nodes_max),
            any_bool(4),
        ),
        0..=instances_max,
    );
    (vec(any_node(), 0..=nodes_max), instances).prop_map(|(mut nodes, instances)| {
        for (index, node) in nodes.iter_mut().enumerate() {
            node.name = format!("n{index}");
        }
        let (mut running, mut pending) = (Vec::new(), Vec::new());
        for (index, (constraints, application, at, leaving)) in instances.into_iter().enumerate() {
            let instance = Instance {
                constraints,
                ..instance(&format!("i{index}"), application)
            };
            match at.and_then(|at| nodes.get(at)) {
                Some(node) => running.push(Occupant {
                    instance,
                    node: node.name.clone(),
                    leaving,
                }),
                None => pending.push(instance),
            }
        }
        World {
            nodes,
            running,
            pending,
        }
    })
}

fn any_node() -> impl Strategy<Value = Node> {
    let zone = option::of(select(vec!["one", "two"]));
    let taints = vec((select(vec!["gpu", "old"]), effect()), 0..2);
    (
        0_u64..5,
        0_u64..5,
        0_u32..4,
        zone,
        any_bool(2),
        taints,
        any_bool(8),
    )
        .prop_map(
            |(cpu_millis, memory, instances, zone, ssd, taints, unready)| {
                let zone = zone.map(|zone| ("zone".to_owned(), zone.to_owned()));
                let disk = ssd.then(|| ("disk".to_owned(), "ssd".to_owned()));
                let taint = |(key, effect): (&str, Effect)| Taint {
                    key: key.to_owned(),
                    value: "yes".to_owned(),
                    effect,
                };
                Node {
                    name: String::new(),
                    offer: Offer {
                        capacity: Capacity {
                            cpu_millis,
                            memory,
                            instances,
                        },
                        labels: zone.into_iter().chain(disk).collect(),
                        taints: taints.into_iter().map(taint).collect(),
                    },
                    ready: !unready,
                    notes: Vec::new(),
                }
            },
        )
}

fn constraints() -> impl Strategy<Value = Constraints> {
    let requests = (option::of(0_u32..4), option::of(0_u64..4));
    let names = || vec(application().prop_map(str::to_owned), 0..2);
    let rarely = |names| prop_oneof![3 => Just(Vec::new()), 1 => names];
    let spread = option::of(select(vec![Spread::Node, Spread::Zone]));
    let toleration = option::of((
        select(vec!["gpu", "old"]),
        option::of(select(vec!["yes", "no"])),
    ));
    (
        requests,
        any_bool(5),
        rarely(names().boxed()),
        rarely(names().boxed()),
        spread,
        toleration,
        0_i32..3,
    )
        .prop_map(
            |((cpu_millis, memory), ssd, affinity, anti_affinity, spread, toleration, priority)| {
                let disk = ssd.then(|| ("disk".to_owned(), "ssd".to_owned()));
                let tolerations = toleration.map(|(key, value)| Toleration {
                    key: key.to_owned(),
                    value: value.map(str::to_owned),
                });
                Constraints {
                    runtime: Default::default(),
                    requests: Resources {
                        cpu_millis,
                        memory,
                        pids: None,
                    },
                    node_labels: disk.into_iter().collect::<BTreeMap<_, _>>(),
                    affinity,
                    anti_affinity,
                    spread,
                    tolerations: tolerations.into_iter().collect(),
                    priority,
                }
            },
        )
}

fn application() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c"])
}

fn effect() -> impl Strategy<Value = Effect> {
    select(vec![Effect::NoSchedule, Effect::PreferNoSchedule])
}

/// True once in so many times.
fn any_bool(once_in: u32) -> impl Strategy<Value = bool> {
    (0..once_in).prop_map(|n| n == 0)
}
