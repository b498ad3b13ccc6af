use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use super::{
    entry::{Entry, Instance},
    instance::Life,
    userland::Inside,
    workloads::{State, Workloads},
};
use crate::{
    backend::{InstanceId, InstanceState, InstanceStatus, Template, Unplaced, Usage, WorkloadId},
    placement::{self, Occupant, Plan, place},
};

/// An instance that is missing.
struct Missing {
    workload: WorkloadId,
    release: u64,
    template: Arc<Template>,
}

impl Workloads {
    /// Stops what is too much, places and starts what is missing, and forgets what nothing is left of.
    pub(super) fn settle(self: &Arc<Self>, state: &mut State) {
        if state.closed {
            return;
        }
        while state.lives.try_join_next().is_some() {}
        for entry in state.workloads.values_mut() {
            entry.retire_surplus();
        }
        let emptied = |entry: &Entry| entry.wanted.is_none() && entry.instances.is_empty();
        let forgotten = state.workloads.extract_if(.., |_, entry| emptied(entry));
        for (id, _) in forgotten {
            self.logs.forget(&id);
        }
        let missing = state.missing();
        let running: Vec<_> = state.occupants().collect();
        let pending = missing.iter().map(|(id, missing)| placement::Instance {
            id: id.clone(),
            workload: missing.workload.clone(),
            constraints: missing.template.placement.clone(),
        });
        let plan = place(&state.nodes, &running, &pending.collect::<Vec<_>>());
        self.carry_out(state, &plan, missing);
    }

    fn carry_out(
        self: &Arc<Self>,
        state: &mut State,
        plan: &Plan,
        missing: BTreeMap<InstanceId, Missing>,
    ) {
        for (id, entry) in &mut state.workloads {
            let instances = entry.instances.iter_mut();
            let evicted = instances.filter(|i| plan.evictions.contains_key(&i.status.id));
            for victim in evicted.filter(|instance| !instance.retired()) {
                victim.retire();
                victim.status.reason = Some("it made room for a higher priority".to_owned());
                self.changes.tell(id);
            }
        }
        let waiting: HashSet<_> = plan.evictions.values().collect();
        let mut unplaced = BTreeMap::<WorkloadId, Vec<Unplaced>>::new();
        for (id, missing) in missing {
            let reasons = match plan.assignments.get(&id) {
                Some(node) if !waiting.contains(&id) => {
                    self.start(state, missing, node.clone());
                    continue;
                }
                Some(node) => vec![format!("node {node} has room once others have stopped")],
                None => plan.unplaced.get(&id).cloned().unwrap_or_default(),
            };
            let of_workload = unplaced.entry(missing.workload).or_default();
            match of_workload.last_mut() {
                Some(last) if last.release == missing.release => last.missing += 1,
                _ => of_workload.push(Unplaced {
                    release: missing.release,
                    missing: 1,
                    reasons,
                }),
            }
        }
        for (id, entry) in &mut state.workloads {
            let unplaced = unplaced.remove(id).unwrap_or_default();
            if entry.unplaced != unplaced {
                entry.unplaced = unplaced;
                self.changes.tell(id);
            }
        }
    }

    fn start(self: &Arc<Self>, state: &mut State, missing: Missing, node: String) {
        let Some(entry) = state.workloads.get_mut(&missing.workload) else {
            return;
        };
        let ip = self.network.assign();
        // No other instance on this network ever has the address, nor, by it, the name.
        let [_, a, b, c] = ip.octets().map(u32::from);
        let number = (a << 16) | (b << 8) | c;
        let id = format!("{}-{number}", missing.workload.process);
        let inside = Inside {
            world: Arc::clone(self),
            workload: missing.workload,
            instance: InstanceId(id),
            template: missing.template,
        };
        let behaviour = state.behaviours.of(&inside.template);
        let stop = CancellationToken::new();
        entry.instances.push(Instance {
            status: InstanceStatus {
                id: inside.instance.clone(),
                release: missing.release,
                node,
                state: InstanceState::Starting,
                ready: false,
                endpoints: BTreeMap::new(),
                found_port: None,
                restarts: 0,
                created: self.clock.now(),
                reason: Some("it is starting".to_owned()),
                exit: None,
                usage: Some(Usage {
                    memory: behaviour.memory,
                    pids: 1,
                    ..Usage::default()
                }),
            },
            template: Arc::clone(&inside.template),
            files: BTreeMap::new(),
            stop: stop.clone(),
        });
        let life = Life {
            inside,
            release: missing.release,
            behaviour,
            ip: ip.into(),
            stop,
        };
        state.lives.spawn(life.live());
    }
}

impl State {
    /// What is missing, under ids that are the same for the same need.
    fn missing(&self) -> BTreeMap<InstanceId, Missing> {
        let mut all = BTreeMap::new();
        for (workload, entry) in &self.workloads {
            for (release, count, template) in entry.missing() {
                for number in 0..count {
                    let id = format!("{workload} {release:020} {number:010}");
                    let missing = Missing {
                        workload: workload.clone(),
                        release,
                        template: Arc::clone(&template),
                    };
                    all.insert(InstanceId(id), missing);
                }
            }
        }
        all
    }

    fn occupants(&self) -> impl Iterator<Item = Occupant> {
        let entries = self.workloads.iter();
        entries.flat_map(|(workload, entry)| {
            entry.instances.iter().map(|instance| Occupant {
                instance: placement::Instance {
                    id: instance.status.id.clone(),
                    workload: workload.clone(),
                    constraints: instance.template.placement.clone(),
                },
                node: instance.status.node.clone(),
                leaving: instance.retired(),
            })
        })
    }
}
