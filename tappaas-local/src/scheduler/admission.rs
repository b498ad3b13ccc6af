//! Which missing instances this machine takes. Pure.

use std::{collections::BTreeMap, sync::Arc};

use tappaas_core::{
    backend::{InstanceId, InstanceState, Node, Template, Unplaced, WorkloadId},
    placement::{Instance, Occupant, place},
};

use super::table::Table;

/// An instance to be started.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) workload: WorkloadId,
    pub(super) release: u64,
    pub(super) template: Arc<Template>,
}

/// Of one release so many missing instances are placed at once.
const PENDING_MAX: u32 = 64;

impl Table {
    /// Decides about what is missing: returns what `node` takes now, tells those to stop that have to make room for more important
    /// ones, and notes the reasons of the rest.
    pub(super) fn admit(&mut self, node: &Node) -> Vec<Missing> {
        let mut pending = Vec::new();
        let mut questions = BTreeMap::new();
        let mut unplaced: BTreeMap<WorkloadId, Vec<Unplaced>> = BTreeMap::new();
        for (id, entry) in &self.0 {
            for set in entry.missing() {
                let template = Arc::new(set.template);
                for _ in 0..set.count.min(PENDING_MAX) {
                    let instance = InstanceId(format!("missing-{:08}", questions.len()));
                    pending.push(Instance {
                        id: instance.clone(),
                        workload: id.clone(),
                        constraints: template.placement.clone(),
                    });
                    questions.insert(instance, (id.clone(), set.release, Arc::clone(&template)));
                }
                unplaced.entry(id.clone()).or_default().push(Unplaced {
                    release: set.release,
                    missing: set.count,
                    reasons: Vec::new(),
                });
            }
        }
        let plan = match pending.is_empty() {
            true => tappaas_core::placement::Plan::default(),
            false => place(std::slice::from_ref(node), &self.occupants(), &pending),
        };
        for victim in plan.evictions.keys() {
            self.evict(victim);
        }
        let mut admitted = Vec::new();
        for (instance, (workload, release, template)) in questions {
            let sets = unplaced.get_mut(&workload).into_iter().flatten();
            let sets = sets.filter(|set| set.release == release);
            let waits = plan.evictions.values().any(|heir| *heir == instance);
            let reasons = match plan.unplaced.get(&instance) {
                Some(reasons) => reasons.clone(),
                None if waits => {
                    vec!["it waits for less important instances to make room".to_owned()]
                }
                None => {
                    sets.for_each(|set| set.missing -= 1);
                    admitted.push(Missing {
                        workload,
                        release,
                        template,
                    });
                    continue;
                }
            };
            sets.for_each(|set| set.reasons.extend(reasons.iter().cloned()));
        }
        for (id, entry) in &mut self.0 {
            entry.unplaced = unplaced.remove(id).unwrap_or_default();
            entry.unplaced.retain(|set| !set.reasons.is_empty());
            for set in &mut entry.unplaced {
                set.reasons.sort_unstable();
                set.reasons.dedup();
            }
        }
        admitted
    }

    /// What has exited for good needs nothing of the machine any more, and makes no room by going.
    fn occupants(&self) -> Vec<Occupant> {
        let seats = self.0.values().flat_map(|entry| &entry.instances);
        let seats = seats.filter(|seat| seat.status.state != InstanceState::Exited);
        let occupant = |seat: &super::table::Seat| Occupant {
            instance: Instance {
                id: seat.about.id.clone(),
                workload: seat.about.workload.clone(),
                constraints: seat.about.template.placement.clone(),
            },
            node: seat.status.node.clone(),
            leaving: !seat.stays(),
        };
        seats.map(occupant).collect()
    }

    fn evict(&mut self, victim: &InstanceId) {
        let mut seats = self.0.values_mut().flat_map(|entry| &mut entry.instances);
        if let Some(seat) = seats.find(|seat| seat.about.id == *victim) {
            seat.retire();
        }
    }
}

#[cfg(test)]
mod tests {
    use tappaas_core::{
        Name, Timestamp,
        backend::{Image, InstanceStatus, ReleaseSet, Track, Workload},
        placement::{Capacity, Offer},
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::scheduler::{about::About, table::Seat};

    fn node(instances: u32) -> Node {
        Node {
            name: "n".to_owned(),
            offer: Offer {
                capacity: Capacity {
                    cpu_millis: 1000,
                    memory: 100,
                    instances,
                },
                ..Offer::default()
            },
            ready: true,
            notes: Vec::new(),
        }
    }

    fn table(count: u32, cpu_millis: Option<u32>) -> Table {
        let id = WorkloadId {
            application: "t/p/e/app".parse().unwrap(),
            process: Name::new("web").unwrap(),
            track: Track::Stable,
        };
        let image = Image {
            repository: "app".parse().unwrap(),
            digest: tappaas_core::Digest::of("image"),
        };
        let mut template = Template {
            image,
            command: None,
            environment: BTreeMap::new(),
            ports: Vec::new(),
            resources: Default::default(),
            probes: Default::default(),
            stop: Default::default(),
            restart: Default::default(),
            user: Default::default(),
            mounts: Vec::new(),
            peers: Vec::new(),
            placement: Default::default(),
        };
        template.placement.requests.cpu_millis = cpu_millis;
        let workload = Workload {
            id: id.clone(),
            generation: 1,
            releases: vec![ReleaseSet {
                release: 7,
                count,
                retiring: Default::default(),
                template,
            }],
            rollout: None,
            autoscale: None,
        };
        let mut table = Table::default();
        let content = workload.content();
        table.0.entry(id).or_default().wanted = Some((workload, content));
        table
    }

    fn unplaced(table: &Table) -> Vec<Unplaced> {
        table.0.values().next().unwrap().unplaced.clone()
    }

    #[test]
    fn what_fits_is_taken_and_the_rest_is_counted_with_its_reasons() {
        let mut table = table(5, Some(400));
        assert_eq!(table.admit(&node(10)).len(), 2);
        let [only] = unplaced(&table).try_into().unwrap();
        assert_eq!((only.release, only.missing, only.reasons.len()), (7, 3, 1));
    }

    fn seat(table: &mut Table, state: InstanceState) {
        let (id, entry) = table.0.iter_mut().next().unwrap();
        let mut template = entry.wanted.as_ref().unwrap().0.releases[0]
            .template
            .clone();
        template.placement.requests.cpu_millis = Some(800);
        let about = About {
            id: InstanceId("release-1".to_owned()),
            workload: id.clone(),
            release: 6,
            created: Timestamp::UNIX_EPOCH,
            template,
            ports: BTreeMap::new(),
            ready: None,
            gone: false,
        };
        let status = InstanceStatus {
            id: about.id.clone(),
            release: about.release,
            node: "n".to_owned(),
            state,
            ready: false,
            endpoints: BTreeMap::new(),
            found_port: None,
            restarts: 0,
            created: about.created,
            reason: None,
            exit: None,
            usage: None,
        };
        entry.instances.push(Seat {
            about,
            status,
            stop: CancellationToken::new(),
            lost: false,
            running: None,
        });
    }

    #[test]
    fn what_has_exited_takes_no_room_and_is_not_evicted_for_it() {
        for (state, admitted) in [(InstanceState::Running, 0), (InstanceState::Exited, 1)] {
            let mut table = table(1, Some(400));
            seat(&mut table, state);
            assert_eq!(table.admit(&node(1)).len(), admitted, "{state:?}");
            let entry = table.0.values().next().unwrap();
            assert!(entry.instances.iter().all(Seat::stays));
        }
    }

    #[test]
    fn more_than_one_round_can_place_is_no_shortage() {
        let mut table = table(1000, None);
        assert_eq!(table.admit(&node(2000)).len(), PENDING_MAX as usize);
        assert!(unplaced(&table).is_empty());
    }
}
