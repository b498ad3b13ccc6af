use tappaas_core::{
    backend::{InstanceId, Node},
    placement::{Effect, Instance, Occupant, Plan, Spread},
};

/// Knows the rules of placement, and nothing of how it is done: looks at every instance and tries every set of victims.
pub(super) struct Oracle<'a> {
    nodes: &'a [Node],
    on: Vec<Occupant>,
}

/// How many must go: of those not leaving anyway, and all in all.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Evictions {
    pub(super) live: usize,
    pub(super) all: usize,
}

impl<'a> Oracle<'a> {
    pub(super) fn new(nodes: &'a [Node], running: &[Occupant]) -> Self {
        let on = running.to_vec();
        Self { nodes, on }
    }

    /// The world once a plan is carried out.
    pub(super) fn after(&self, plan: &Plan, pending: &[Instance]) -> Self {
        let stays = |occupant: &&Occupant| !plan.evictions.contains_key(&occupant.instance.id);
        let placed = pending.iter().filter_map(|instance| {
            Some(Occupant {
                instance: instance.clone(),
                node: plan.assignments.get(&instance.id)?.clone(),
                leaving: false,
            })
        });
        Self {
            nodes: self.nodes,
            on: self
                .on
                .iter()
                .filter(stays)
                .cloned()
                .chain(placed)
                .collect(),
        }
    }

    /// What is wrong with an instance on a node, whether it is counted there already or not.
    pub(super) fn fault(&self, instance: &Instance, node: &str) -> Option<String> {
        let lonely = self.lonely(instance, node).then(|| "affinity".to_owned());
        self.fault_but_affinity(instance, node).or(lonely)
    }

    /// Says whether an instance misses what it has affinity to.
    fn lonely(&self, instance: &Instance, node: &str) -> bool {
        let own = &instance.workload.application;
        let others = || {
            self.on
                .iter()
                .filter(|other| other.instance.id != instance.id && !other.leaving)
        };
        let missing = |name: &String| {
            let here = others().any(|other| {
                other.node == node && other.instance.workload.application.name == name.as_str()
            });
            let first = *name == own.name.as_str()
                && !others().any(|other| other.instance.workload.application == *own);
            !here && !first
        };
        instance.constraints.affinity.iter().any(missing)
    }

    /// The same, without affinity to its own application: whoever was the first of it may be joined elsewhere later.
    pub(super) fn fault_later(&self, instance: &Instance, node: &str) -> Option<String> {
        let mut others = instance.clone();
        let own = instance.workload.application.name.as_str();
        others.constraints.affinity.retain(|name| name != own);
        self.fault(&others, node)
    }

    fn fault_but_affinity(&self, instance: &Instance, node: &str) -> Option<String> {
        let node = self.nodes.iter().find(|known| known.name == node)?;
        let others = self
            .on
            .iter()
            .filter(|other| other.instance.id != instance.id);
        let others: Vec<_> = others.collect();
        let here: Vec<_> = others
            .iter()
            .filter(|other| other.node == node.name)
            .collect();
        let wanted = &instance.constraints;
        let own = &instance.workload.application;
        if !node.ready {
            return Some("not ready".to_owned());
        }
        if wanted
            .node_labels
            .iter()
            .any(|label| !node.offer.labels.iter().any(|l| l == label))
        {
            return Some("labels".to_owned());
        }
        if self.intolerable(instance, node, Effect::NoSchedule) > 0 {
            return Some("taint".to_owned());
        }
        let all = here.iter().map(|other| &other.instance).chain([instance]);
        let requests: Vec<_> = all.map(|instance| instance.constraints.requests).collect();
        let memory: u64 = requests.iter().filter_map(|r| r.memory).sum();
        let cpu: u64 = requests
            .iter()
            .filter_map(|r| r.cpu_millis)
            .map(u64::from)
            .sum();
        let capacity = &node.offer.capacity;
        // Who asks for nothing of a resource is no burden on it, however overcommitted it is.
        let asks = |amount: Option<u64>| amount.unwrap_or(0) > 0;
        let request = wanted.requests;
        if requests.len() as u64 > capacity.instances.into()
            || (asks(request.memory) && memory > capacity.memory)
            || (asks(request.cpu_millis.map(u64::from)) && cpu > capacity.cpu_millis)
        {
            return Some("overcommitted".to_owned());
        }
        let is_here = |name: &String| {
            here.iter()
                .any(|other| other.instance.workload.application.name == name.as_str())
        };
        if wanted.anti_affinity.iter().any(is_here) {
            return Some("anti-affinity".to_owned());
        }
        let repels = |other: &&&Occupant| {
            let names = &other.instance.constraints.anti_affinity;
            names.iter().any(|name| *name == own.name.as_str())
        };
        here.iter()
            .any(repels)
            .then(|| "anti-affinity of another".to_owned())
    }

    /// The fewest that must go from a node so that an instance can come; `None`: nothing helps.
    pub(super) fn fewest_evictions(&self, instance: &Instance, node: &str) -> Option<Evictions> {
        let priority = instance.constraints.priority;
        let evictable = self.on.iter().filter(|occupant| {
            let lower = occupant.instance.constraints.priority < priority;
            occupant.node == node && (occupant.leaving || lower)
        });
        let evictable: Vec<_> = evictable.collect();
        let sets = (0_u32..1 << evictable.len()).filter_map(|set| {
            let chosen = evictable
                .iter()
                .enumerate()
                .filter(|(bit, _)| set >> bit & 1 == 1);
            let victims: Vec<_> = chosen.map(|(_, victim)| *victim).collect();
            let ids: Vec<_> = victims.iter().map(|victim| &victim.instance.id).collect();
            self.suffices(instance, node, &ids).then(|| Evictions {
                live: victims.iter().filter(|victim| !victim.leaving).count(),
                all: victims.len(),
            })
        });
        sets.min()
    }

    /// Says whether an instance can come to a node once these are gone, and nobody who stays is deprived.
    pub(super) fn suffices(&self, instance: &Instance, node: &str, gone: &[&InstanceId]) -> bool {
        let without = |gone: &dyn Fn(&Occupant) -> bool| Self {
            nodes: self.nodes,
            on: self
                .on
                .iter()
                .filter(|occupant| !gone(occupant))
                .cloned()
                .collect(),
        };
        let left = without(&|occupant| gone.contains(&&occupant.instance.id));
        let mut here = left.on.iter().filter(|occupant| occupant.node == node);
        let deprived = here
            .any(|occupant| !occupant.leaving && self.content(occupant) && !left.content(occupant));
        // Whether it is the first of its application is told from the world as it is.
        let own = &instance.workload.application;
        let any = |world: &Self| {
            world
                .on
                .iter()
                .any(|other| other.instance.workload.application == *own && !other.leaving)
        };
        let widowed = any(self)
            && !any(&left)
            && instance
                .constraints
                .affinity
                .iter()
                .any(|name| *name == own.name.as_str());
        !deprived && !widowed && left.fault(instance, node).is_none()
    }

    /// How many taints ask the instance to go elsewhere.
    pub(super) fn avoided(&self, instance: &Instance, node: &str) -> usize {
        let node = self.nodes.iter().find(|known| known.name == node);
        node.map_or(0, |node| {
            self.intolerable(instance, node, Effect::PreferNoSchedule)
        })
    }

    /// How many of its workload are in the topology of its spread, and on the node.
    pub(super) fn crowd(&self, instance: &Instance, node: &str) -> (usize, usize) {
        let zone = |name: &str| {
            let node = self.nodes.iter().find(|node| node.name == name);
            node.and_then(|node| node.offer.labels.get("zone"))
        };
        let siblings = || {
            self.on
                .iter()
                .filter(|other| other.instance.workload == instance.workload)
        };
        let in_zone = match instance.constraints.spread {
            Some(Spread::Zone) => siblings()
                .filter(|other| zone(&other.node) == zone(node))
                .count(),
            Some(Spread::Node) | None => 0,
        };
        (
            in_zone,
            siblings().filter(|other| other.node == node).count(),
        )
    }

    /// Says whether everything that an occupant has affinity to is on its node.
    fn content(&self, occupant: &Occupant) -> bool {
        occupant.instance.constraints.affinity.iter().all(|name| {
            self.on.iter().any(|other| {
                other.instance.id != occupant.instance.id
                    && !other.leaving
                    && other.node == occupant.node
                    && other.instance.workload.application.name == name.as_str()
            })
        })
    }

    fn intolerable(&self, instance: &Instance, node: &Node, effect: Effect) -> usize {
        let taints = node
            .offer
            .taints
            .iter()
            .filter(|taint| taint.effect == effect);
        let untolerated = taints.filter(|taint| {
            !instance.constraints.tolerations.iter().any(|toleration| {
                toleration.key == taint.key
                    && (toleration.value.is_none()
                        || toleration.value.as_ref() == Some(&taint.value))
            })
        });
        untolerated.count()
    }
}
