use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    Constraints, Spread,
    obstacle::{Obstacle, reasons},
    preempt::victims,
    site::Site,
};
use crate::backend::{InstanceId, Node, WorkloadId};

/// An instance as placement sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Instance {
    /// Which instance.
    pub id: InstanceId,
    /// Of which workload.
    pub workload: WorkloadId,
    /// Where it may run.
    pub constraints: Constraints,
}

/// An instance that has its node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Occupant {
    /// The instance.
    pub instance: Instance,
    /// The name of its node.
    pub node: String,
    /// It is stopping: its room is still taken, but to wait for it evicts nobody.
    pub leaving: bool,
}

/// What is to be done about pending instances.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// The node of each instance that can be placed.
    pub assignments: BTreeMap<InstanceId, String>,
    /// The occupants that must be gone before an assigned instance can start, and which one that is. Those that are not
    /// leaving already are to be stopped.
    pub evictions: BTreeMap<InstanceId, InstanceId>,
    /// Why the others cannot be placed: one reason for each group of nodes.
    pub unplaced: BTreeMap<InstanceId, Vec<String>>,
}

/// Places the pending instances.
///
/// Hard limits are: a node's readiness, capacity and labels, taints `NoSchedule`, affinity to what stays there, and
/// anti-affinity, which counts both ways. Affinity to an application that has no instance anywhere cannot be met, except by its own
/// first instance. Where several
/// nodes are left, the one is taken with, in this order, the fewest untolerated taints `PreferNoSchedule`; the fewest instances of the
/// workload in the topology of its spread, then on the node; the most room left; the first name. Spread never keeps an instance
/// from being placed.
///
/// Instances of higher priority come first, and may evict occupants of strictly lower priority, on the node where the fewest have to
/// go, if nothing else helps and this does. An eviction never takes away what another occupant has affinity to.
///
/// The order of the arguments' elements has no influence. Names of nodes and ids of instances must be unique.
pub fn place(nodes: &[Node], running: &[Occupant], pending: &[Instance]) -> Plan {
    let mut world = World::new(nodes, running);
    let mut queue: Vec<&Instance> = pending.iter().collect();
    let mut plan = Plan::default();
    // Whoever is placed may be what one further in front waits for: so each search begins in front.
    while let Some((index, place)) = world.next(&mut queue) {
        let instance = queue.remove(index);
        let site = &mut world.sites[place.site];
        for victim in place.victims.iter().filter_map(|id| site.remove(id)) {
            let id = &victim.instance.id;
            if plan.assignments.remove(id).is_some() {
                // Who was to go for the victim now goes for whom the victim goes.
                let heirs = plan.evictions.values_mut().filter(|heir| *heir == id);
                heirs.for_each(|heir| heir.clone_from(&instance.id));
                queue.push(victim.instance);
            } else {
                plan.evictions.insert(id.clone(), instance.id.clone());
            }
        }
        let node = site.node.name.clone();
        plan.assignments.insert(instance.id.clone(), node);
        site.add(Seat {
            instance,
            leaving: false,
        });
    }
    for instance in queue {
        let reasons = reasons(&world.obstacles(instance));
        plan.unplaced.insert(instance.id.clone(), reasons);
    }
    plan
}

/// An instance on a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat<'a> {
    pub(super) instance: &'a Instance,
    pub(super) leaving: bool,
}

/// Every node with what is on it, in order of their names.
pub(super) struct World<'a> {
    pub(super) sites: Vec<Site<'a>>,
}

/// Where an instance goes, and who has to go for it.
struct Place {
    site: usize,
    victims: Vec<InstanceId>,
}

impl<'a> World<'a> {
    fn new(nodes: &'a [Node], running: &'a [Occupant]) -> Self {
        let mut sites: Vec<_> = nodes.iter().map(Site::new).collect();
        sites.sort_by(|one, other| one.node.name.cmp(&other.node.name));
        for occupant in running {
            let site = sites.binary_search_by(|site| site.node.name.cmp(&occupant.node));
            if let Ok(site) = site {
                sites[site].add(Seat {
                    instance: &occupant.instance,
                    leaving: occupant.leaving,
                });
            }
        }
        Self { sites }
    }

    /// The foremost instance that can be placed, and where.
    fn next(&self, queue: &mut [&Instance]) -> Option<(usize, Place)> {
        queue.sort_by_key(|instance| (Reverse(instance.constraints.priority), &instance.id));
        let places = queue.iter().enumerate();
        let mut places = places.map(|(index, instance)| Some((index, self.find(instance)?)));
        places.find_map(|place| place)
    }

    fn find(&self, instance: &Instance) -> Option<Place> {
        let founder = self.founder(instance);
        let sites = self.sites.iter().enumerate();
        let free = sites.filter(|(_, site)| site.check(instance, founder).is_ok());
        if let Some((site, _)) = free.min_by_key(|(_, site)| self.rank(instance, site)) {
            let victims = Vec::new();
            return Some(Place { site, victims });
        }
        let evicting = self.sites.iter().enumerate().filter_map(|(index, site)| {
            let victims = victims(site, instance, founder)?;
            let evicted = victims.iter().filter(|victim| !victim.leaving).count();
            let rank = (evicted, victims.len(), self.rank(instance, site));
            let victims = victims.iter().map(|victim| victim.instance.id.clone());
            let victims = victims.collect();
            Some((
                rank,
                Place {
                    site: index,
                    victims,
                },
            ))
        });
        let least = evicting.min_by(|(one, _), (other, _)| one.cmp(other));
        least.map(|(_, place)| place)
    }

    /// What speaks against a node that an instance fits on, most important first.
    fn rank(&self, instance: &Instance, site: &Site<'_>) -> (usize, u32, u32, u64, String) {
        let apart = match instance.constraints.spread {
            Some(Spread::Node) | None => 0,
            Some(Spread::Zone) => {
                let same = self
                    .sites
                    .iter()
                    .filter(|other| other.zone() == site.zone());
                same.map(|site| site.of_workload(&instance.workload)).sum()
            }
        };
        (
            site.avoided_by(instance),
            apart,
            site.of_workload(&instance.workload),
            site.fullness_with(instance),
            site.node.name.clone(),
        )
    }

    /// Says whether an instance would be the first of its application.
    fn founder(&self, instance: &Instance) -> bool {
        let application = &instance.workload.application;
        self.sites.iter().all(|site| !site.keeps(application))
    }

    fn obstacles(&self, instance: &Instance) -> Vec<Obstacle> {
        let founder = self.founder(instance);
        let sites = self.sites.iter();
        sites
            .filter_map(|site| site.check(instance, founder).err())
            .collect()
    }
}
