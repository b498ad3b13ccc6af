use std::collections::BTreeMap;

use super::{Capacity, Effect, Instance, Taint, obstacle::Obstacle, place::Seat};
use crate::{
    Name,
    backend::{InstanceId, Node, WorkloadId},
    model::ApplicationKey,
};

/// The node label that is the topology of [`Spread::Zone`](super::Spread::Zone).
const ZONE: &str = "zone";

/// A node and what is on it.
#[derive(Clone, Debug)]
pub(super) struct Site<'a> {
    pub(super) node: &'a Node,
    seats: BTreeMap<&'a InstanceId, Seat<'a>>,
    used: Capacity,
    /// How many instances of each application are here, and how many of them stay.
    applications: BTreeMap<&'a ApplicationKey, u32>,
    staying: BTreeMap<&'a ApplicationKey, u32>,
    /// How many instances of each workload are here.
    workloads: BTreeMap<&'a WorkloadId, u32>,
    /// How many instances here keep an application away.
    repelled: BTreeMap<ApplicationKey, u32>,
}

impl<'a> Site<'a> {
    pub(super) fn new(node: &'a Node) -> Self {
        Self {
            node,
            seats: BTreeMap::new(),
            used: Capacity::default(),
            applications: BTreeMap::new(),
            staying: BTreeMap::new(),
            workloads: BTreeMap::new(),
            repelled: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, seat: Seat<'a>) {
        let instance = seat.instance;
        let needs = needs(instance);
        self.used.cpu_millis = self.used.cpu_millis.saturating_add(needs.cpu_millis);
        self.used.memory = self.used.memory.saturating_add(needs.memory);
        self.used.instances = self.used.instances.saturating_add(needs.instances);
        raise(&mut self.applications, &instance.workload.application);
        raise(&mut self.workloads, &instance.workload);
        if !seat.leaving {
            raise(&mut self.staying, &instance.workload.application);
        }
        for name in &instance.constraints.anti_affinity {
            if let Some(application) = neighbour(instance, name) {
                *self.repelled.entry(application).or_default() += 1;
            }
        }
        self.seats.insert(&instance.id, seat);
    }

    pub(super) fn remove(&mut self, id: &InstanceId) -> Option<Seat<'a>> {
        let seat = self.seats.remove(id)?;
        let instance = seat.instance;
        let needs = needs(instance);
        self.used.cpu_millis = self.used.cpu_millis.saturating_sub(needs.cpu_millis);
        self.used.memory = self.used.memory.saturating_sub(needs.memory);
        self.used.instances = self.used.instances.saturating_sub(needs.instances);
        lower(&mut self.applications, &&instance.workload.application);
        lower(&mut self.workloads, &&instance.workload);
        if !seat.leaving {
            lower(&mut self.staying, &&instance.workload.application);
        }
        for name in &instance.constraints.anti_affinity {
            if let Some(application) = neighbour(instance, name) {
                lower(&mut self.repelled, &application);
            }
        }
        Some(seat)
    }

    /// Says whether an instance may come here now. `founder`: it would be the first of its application anywhere.
    pub(super) fn check(&self, instance: &Instance, founder: bool) -> Result<(), Obstacle> {
        self.check_node(instance)?;
        self.check_neighbours(instance, founder)?;
        self.check_room(instance)
    }

    /// What no eviction changes.
    pub(super) fn check_node(&self, instance: &Instance) -> Result<(), Obstacle> {
        if !self.node.ready {
            return Err(Obstacle::NotReady);
        }
        let labels = &self.node.offer.labels;
        for (name, value) in &instance.constraints.node_labels {
            if labels.get(name) != Some(value) {
                return Err(Obstacle::Label(name.clone(), value.clone()));
            }
        }
        match self.intolerable(instance, Effect::NoSchedule).next() {
            Some(taint) => Err(Obstacle::Taint(taint.key.clone(), taint.value.clone())),
            None => Ok(()),
        }
    }

    fn check_neighbours(&self, instance: &Instance, founder: bool) -> Result<(), Obstacle> {
        let own = &instance.workload.application;
        for name in &instance.constraints.affinity {
            let there = neighbour(instance, name)
                .is_some_and(|wanted| self.keeps(&wanted) || (founder && wanted == *own));
            if !there {
                return Err(Obstacle::Affinity(name.clone()));
            }
        }
        for name in &instance.constraints.anti_affinity {
            if neighbour(instance, name)
                .is_some_and(|unwanted| self.applications.contains_key(&unwanted))
            {
                return Err(Obstacle::AntiAffinity(name.clone()));
            }
        }
        match self.repelled.contains_key(own) {
            true => Err(Obstacle::Repelled),
            false => Ok(()),
        }
    }

    fn check_room(&self, instance: &Instance) -> Result<(), Obstacle> {
        let (offer, needs) = (&self.node.offer.capacity, needs(instance));
        if offer.instances.saturating_sub(self.used.instances) < needs.instances {
            return Err(Obstacle::Instances);
        }
        let free = offer.cpu_millis.saturating_sub(self.used.cpu_millis);
        if free < needs.cpu_millis {
            return Err(Obstacle::Cpu {
                needed: needs.cpu_millis,
                free,
            });
        }
        let free = offer.memory.saturating_sub(self.used.memory);
        if free < needs.memory {
            return Err(Obstacle::Memory {
                needed: needs.memory,
                free,
            });
        }
        Ok(())
    }

    /// The occupants, in order of their ids.
    pub(super) fn seats(&self) -> impl Iterator<Item = Seat<'a>> {
        self.seats.values().copied()
    }

    /// Says whether an occupant that stays has everything here that it has affinity to, itself not counted.
    pub(super) fn is_content(&self, occupant: &Instance) -> bool {
        occupant.constraints.affinity.iter().all(|name| {
            let own = occupant.workload.application.name == name.as_str();
            let wanted = neighbour(occupant, name);
            let here = wanted.and_then(|wanted| self.staying.get(&wanted).copied());
            here.unwrap_or(0) > u32::from(own)
        })
    }

    /// Says whether an instance of an application is here, and stays.
    pub(super) fn keeps(&self, application: &ApplicationKey) -> bool {
        self.staying.contains_key(application)
    }

    pub(super) fn of_workload(&self, workload: &WorkloadId) -> u32 {
        self.workloads.get(workload).copied().unwrap_or(0)
    }

    pub(super) fn zone(&self) -> Option<&String> {
        self.node.offer.labels.get(ZONE)
    }

    /// How many taints ask an instance to go elsewhere.
    pub(super) fn avoided_by(&self, instance: &Instance) -> usize {
        self.intolerable(instance, Effect::PreferNoSchedule).count()
    }

    /// How full the fullest of the node's resources would be, in millionths.
    pub(super) fn fullness_with(&self, instance: &Instance) -> u64 {
        let (offer, needs) = (&self.node.offer.capacity, needs(instance));
        let part = |used: u64, needed: u64, offered: u64| {
            let used = u128::from(used) + u128::from(needed);
            let part = used * 1_000_000 / u128::from(offered.max(1));
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        part(self.used.cpu_millis, needs.cpu_millis, offer.cpu_millis)
            .max(part(self.used.memory, needs.memory, offer.memory))
            .max(part(
                self.used.instances.into(),
                needs.instances.into(),
                offer.instances.into(),
            ))
    }

    fn intolerable(&self, instance: &Instance, effect: Effect) -> impl Iterator<Item = &Taint> {
        let tolerations = &instance.constraints.tolerations;
        let tolerated = move |taint: &Taint| {
            tolerations.iter().any(|toleration| {
                let value = toleration.value.as_ref();
                toleration.key == taint.key && value.is_none_or(|value| *value == taint.value)
            })
        };
        let taints = self.node.offer.taints.iter();
        taints.filter(move |taint| taint.effect == effect && !tolerated(taint))
    }
}

/// What an instance takes from its node.
fn needs(instance: &Instance) -> Capacity {
    let requests = &instance.constraints.requests;
    Capacity {
        cpu_millis: requests.cpu_millis.unwrap_or(0).into(),
        memory: requests.memory.unwrap_or(0),
        instances: 1,
    }
}

/// The application that an instance knows by this name. A name that cannot be one names nothing.
fn neighbour(instance: &Instance, name: &str) -> Option<ApplicationKey> {
    Some(ApplicationKey {
        name: Name::new(name).ok()?,
        ..instance.workload.application.clone()
    })
}

fn raise<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    *counts.entry(key).or_default() += 1;
}

fn lower<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
