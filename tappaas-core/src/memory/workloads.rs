use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Behaviour, Network, Volumes, changes::Changes, instance::Life, lock::lock, logs::Logs,
    userland::Inside,
};
use crate::{
    Clock, Digest, Error, Result,
    backend::{
        InstanceId, InstanceState, InstanceStatus, Node, Peer, PeerAddress, Template, Unplaced,
        Usage, Workload, WorkloadId, WorkloadStatus,
    },
    model::{ApplicationKey, Command},
};

/// Where peers are reached, whoever they are.
const PEER_PORT: u16 = 8080;

/// Everything that a scheduler and its instances share.
#[derive(Debug)]
pub(super) struct Workloads {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) network: Network,
    pub(super) volumes: Volumes,
    pub(super) logs: Arc<Logs>,
    pub(super) changes: Changes<WorkloadId>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    nodes: Vec<Node>,
    by_image: HashMap<Digest, Behaviour>,
    by_command: Vec<(Command, Behaviour)>,
    workloads: BTreeMap<WorkloadId, Entry>,
    peers: Vec<(ApplicationKey, Peer)>,
    /// Instances ever made.
    born: u32,
    /// The lives of all instances.
    lives: JoinSet<()>,
    /// The scheduler is gone: nothing starts any more.
    closed: bool,
}

/// A workload, or what is left of one.
#[derive(Debug, Default)]
struct Entry {
    /// `None` once it was removed.
    wanted: Option<(Workload, Digest)>,
    /// In order of age.
    instances: Vec<Instance>,
    unplaced: Vec<Unplaced>,
}

#[derive(Debug)]
struct Instance {
    status: InstanceStatus,
    template: Arc<Template>,
    /// What it wrote outside its volumes.
    files: BTreeMap<PathBuf, Bytes>,
    stop: CancellationToken,
}

impl Workloads {
    pub(super) fn new(clock: Arc<dyn Clock>, network: Network, volumes: Volumes) -> Self {
        Self {
            clock,
            network,
            volumes,
            logs: Arc::default(),
            changes: Changes::default(),
            state: Mutex::default(),
        }
    }
}

impl Workloads {
    pub(super) fn behave_by_image(&self, image: Digest, behaviour: Behaviour) {
        lock(&self.state).by_image.insert(image, behaviour);
    }

    pub(super) fn behave_by_command(&self, command: Command, behaviour: Behaviour) {
        lock(&self.state).by_command.push((command, behaviour));
    }

    pub(super) fn set_nodes(self: &Arc<Self>, nodes: Vec<Node>) {
        let mut state = lock(&self.state);
        state.nodes = nodes;
        self.settle(&mut state);
    }

    pub(super) fn nodes(&self) -> Vec<Node> {
        lock(&self.state).nodes.clone()
    }

    pub(super) fn apply(self: &Arc<Self>, workload: &Workload) -> Result<()> {
        let mut state = lock(&self.state);
        let entry = state.workloads.entry(workload.id.clone()).or_default();
        if let Some((last, content)) = &entry.wanted
            && !workload.supersedes(last.generation, content)?
        {
            return Ok(());
        }
        entry.wanted = Some((workload.clone(), workload.content()));
        self.settle(&mut state);
        self.changes.tell(&workload.id);
        Ok(())
    }

    pub(super) fn remove(self: &Arc<Self>, id: &WorkloadId) {
        let mut state = lock(&self.state);
        if let Some(entry) = state.workloads.get_mut(id) {
            entry.wanted = None;
            self.settle(&mut state);
            self.changes.tell(id);
        }
    }

    pub(super) fn observe(&self, id: &WorkloadId) -> Option<WorkloadStatus> {
        let state = lock(&self.state);
        let entry = state.workloads.get(id)?;
        let (wanted, content) = entry.wanted.as_ref()?;
        let instances = entry.instances.iter();
        Some(WorkloadStatus {
            generation: wanted.generation,
            content: content.clone(),
            counts: wanted
                .releases
                .iter()
                .map(|set| (set.release, set.count))
                .collect(),
            instances: instances.map(|instance| instance.status.clone()).collect(),
            unplaced: entry.unplaced.clone(),
        })
    }

    pub(super) fn list(&self) -> Vec<WorkloadId> {
        lock(&self.state).workloads.keys().cloned().collect()
    }

    /// The inside of an instance where a command can run: the one asked for, or any ready one.
    pub(super) fn inside(
        self: &Arc<Self>,
        workload: &WorkloadId,
        id: Option<&InstanceId>,
    ) -> Result<Inside> {
        let state = lock(&self.state);
        let instances = state
            .workloads
            .get(workload)
            .into_iter()
            .flat_map(|entry| &entry.instances);
        let mut fitting = instances.filter(|instance| match id {
            Some(id) => instance.status.id == *id,
            None => instance.status.ready,
        });
        let instance = fitting.next().ok_or_else(|| match id {
            Some(id) => Error::not_found(format!("{workload} has no instance {id}")),
            None => Error::not_found(format!("{workload} has no ready instance")),
        })?;
        if instance.status.state != InstanceState::Running {
            return Err(Error::not_found(format!(
                "no process runs in instance {}",
                instance.status.id
            )));
        }
        Ok(Inside {
            world: Arc::clone(self),
            workload: workload.clone(),
            instance: instance.status.id.clone(),
            template: Arc::clone(&instance.template),
        })
    }

    pub(super) fn peer(&self, from: &ApplicationKey, peer: &Peer) -> PeerAddress {
        let mut state = lock(&self.state);
        let known = state.peers.iter().position(|(f, p)| f == from && p == peer);
        let index = known.unwrap_or_else(|| {
            state.peers.push((from.clone(), peer.clone()));
            state.peers.len() - 1
        });
        let address = peer_address(index);
        PeerAddress {
            host: address.ip().to_string(),
            port: address.port(),
            listen: Some(address),
        }
    }

    /// Says whether an instance reaches an address: that of a peer that its template names.
    pub(super) fn reaches(&self, inside: &Inside, address: SocketAddr) -> bool {
        let state = lock(&self.state);
        let mut peers = state.peers.iter().enumerate();
        peers.any(|(index, (from, peer))| {
            peer_address(index) == address
                && *from == inside.workload.application
                && inside.template.peers.contains(peer)
        })
    }

    /// Changes what an instance's status says, and tells watchers if that is news.
    pub(super) fn update(&self, inside: &Inside, change: impl FnOnce(&mut InstanceStatus)) {
        let mut state = lock(&self.state);
        let Some(instance) = state.instance(inside) else {
            return;
        };
        let before = instance.status.clone();
        change(&mut instance.status);
        if instance.stop.is_cancelled() {
            // What is told to stop never looks alive again.
            instance.status.state = InstanceState::Stopping;
            instance.status.ready = false;
        }
        if instance.status != before {
            self.changes.tell(&inside.workload);
        }
    }

    /// Forgets an instance that has ended for good.
    pub(super) fn gone(self: &Arc<Self>, inside: &Inside) {
        self.volumes.release(&inside.instance);
        let mut state = lock(&self.state);
        if let Some(entry) = state.workloads.get_mut(&inside.workload) {
            entry
                .instances
                .retain(|instance| instance.status.id != inside.instance);
        }
        self.settle(&mut state);
        self.changes.tell(&inside.workload);
    }

    pub(super) fn read_file(&self, inside: &Inside, path: &Path) -> Option<Bytes> {
        if let Some((mount, inner)) = inside.mounted(path) {
            return self.volumes.read(&mount.volume, inner);
        }
        lock(&self.state).instance(inside)?.files.get(path).cloned()
    }

    /// Writes a file of an instance, or with `None` removes it.
    pub(super) fn write_file(
        &self,
        inside: &Inside,
        path: &Path,
        content: Option<Bytes>,
    ) -> Result<(), &'static str> {
        match inside.mounted(path) {
            Some((mount, _)) if mount.read_only => Err("Read-only file system"),
            Some((mount, inner)) => {
                self.volumes.write(&mount.volume, inner, content);
                Ok(())
            }
            None if !path.starts_with("/tmp") => Err("Read-only file system"),
            None => {
                let mut state = lock(&self.state);
                let files = state.instance(inside).map(|instance| &mut instance.files);
                match (files, content) {
                    (Some(files), Some(content)) => files.insert(path.to_owned(), content),
                    (Some(files), None) => files.remove(path),
                    (None, _) => None,
                };
                Ok(())
            }
        }
    }

    /// Ends everything at once.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.lives.abort_all();
    }

    /// Stops what is too much and starts what is missing.
    fn settle(self: &Arc<Self>, state: &mut State) {
        if state.closed {
            return;
        }
        while state.lives.try_join_next().is_some() {}
        for entry in state.workloads.values_mut() {
            entry.retire();
        }
        let emptied = |entry: &Entry| entry.wanted.is_none() && entry.instances.is_empty();
        for (id, _) in state.workloads.extract_if(.., |_, entry| emptied(entry)) {
            self.logs.forget(&id);
        }
        let ids: Vec<_> = state.workloads.keys().cloned().collect();
        for id in ids {
            self.start_missing(state, &id);
        }
    }
}

impl Workloads {
    fn start_missing(self: &Arc<Self>, state: &mut State, id: &WorkloadId) {
        let missing = state
            .workloads
            .get(id)
            .map(Entry::missing)
            .unwrap_or_default();
        let mut unplaced = Vec::new();
        for (release, count, template) in missing {
            for started in 0..count {
                let Some(node) = state.free_node(&template) else {
                    unplaced.push(Unplaced {
                        release,
                        missing: count - started,
                        reasons: vec!["no node has room for another instance".to_owned()],
                    });
                    break;
                };
                self.start(state, id, release, &template, node);
            }
        }
        if let Some(entry) = state.workloads.get_mut(id) {
            entry.unplaced = unplaced;
        }
    }

    fn start(
        self: &Arc<Self>,
        state: &mut State,
        id: &WorkloadId,
        release: u64,
        template: &Arc<Template>,
        node: String,
    ) {
        state.born += 1;
        let ip = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + state.born);
        let behaviour = state.behaviour(template);
        let stop = CancellationToken::new();
        let inside = Inside {
            world: Arc::clone(self),
            workload: id.clone(),
            instance: InstanceId(format!("{}-{}", id.process, state.born)),
            template: Arc::clone(template),
        };
        let status = InstanceStatus {
            id: inside.instance.clone(),
            release,
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
        };
        let instance = Instance {
            status,
            template: Arc::clone(template),
            files: BTreeMap::new(),
            stop: stop.clone(),
        };
        let life = Life {
            inside,
            release,
            behaviour,
            ip: IpAddr::V4(ip),
            stop,
        };
        if let Some(entry) = state.workloads.get_mut(id) {
            entry.instances.push(instance);
            state.lives.spawn(life.live());
        }
    }
}

/// Where the peer with this index is reached.
fn peer_address(index: usize) -> SocketAddr {
    let first = Ipv4Addr::new(10, 128, 0, 1).to_bits();
    SocketAddr::new(Ipv4Addr::from_bits(first + index as u32).into(), PEER_PORT)
}

impl State {
    fn instance(&mut self, inside: &Inside) -> Option<&mut Instance> {
        let instances = &mut self.workloads.get_mut(&inside.workload)?.instances;
        let mut instances = instances.iter_mut();
        instances.find(|instance| instance.status.id == inside.instance)
    }

    fn behaviour(&self, template: &Template) -> Behaviour {
        let by_command = template.command.as_ref().and_then(|command| {
            let mut known = self.by_command.iter().rev();
            known
                .find(|(known, _)| known == command)
                .map(|(_, behaviour)| behaviour)
        });
        let by_image = || self.by_image.get(&template.image.digest);
        by_command.or_else(by_image).cloned().unwrap_or_default()
    }

    fn free_node(&self, template: &Template) -> Option<String> {
        let on = |node: &Node| {
            let entries = self.workloads.values();
            let instances = entries.flat_map(|entry| &entry.instances);
            instances
                .filter(|instance| instance.status.node == node.name)
                .count()
        };
        let labelled = |node: &Node| {
            let mut labels = template.placement.node_labels.iter();
            labels.all(|(name, value)| node.offer.labels.get(name) == Some(value))
        };
        let free = |node: &&Node| {
            let capacity = node.offer.capacity.instances as usize;
            node.ready && labelled(node) && on(node) < capacity
        };
        self.nodes.iter().find(free).map(|node| node.name.clone())
    }
}

impl Entry {
    fn count(&self, release: u64) -> u32 {
        let sets = self.wanted.iter().flat_map(|(wanted, _)| &wanted.releases);
        sets.filter(|set| set.release == release)
            .map(|set| set.count)
            .sum()
    }

    fn staying(&self, release: u64) -> impl Iterator<Item = &Instance> {
        let staying = move |instance: &&Instance| {
            instance.status.release == release && !instance.stop.is_cancelled()
        };
        self.instances.iter().filter(staying)
    }

    /// Tells instances to stop that are too many: of a release those named first, then unready ones, then the youngest.
    fn retire(&mut self) {
        let releases: BTreeSet<u64> = self.instances.iter().map(|i| i.status.release).collect();
        for release in releases {
            let sets = self.wanted.iter().flat_map(|(wanted, _)| &wanted.releases);
            let retiring: BTreeSet<_> = sets
                .filter(|set| set.release == release)
                .flat_map(|set| set.retiring.clone())
                .collect();
            let surplus = self
                .staying(release)
                .count()
                .saturating_sub(self.count(release) as usize);
            let mut staying: Vec<_> = self
                .instances
                .iter_mut()
                .filter(|i| i.status.release == release && !i.stop.is_cancelled())
                .collect();
            staying.reverse();
            staying.sort_by_key(|instance| {
                (
                    !retiring.contains(&instance.status.id),
                    instance.status.ready,
                )
            });
            for instance in staying.into_iter().take(surplus) {
                instance.status.state = InstanceState::Stopping;
                instance.status.ready = false;
                instance.stop.cancel();
            }
        }
    }

    /// How many instances of which release are missing, and what they are made from.
    fn missing(&self) -> Vec<(u64, u32, Arc<Template>)> {
        let sets = self.wanted.iter().flat_map(|(wanted, _)| &wanted.releases);
        let missing = sets.map(|set| {
            let staying = self.staying(set.release).count() as u32;
            (
                set.release,
                set.count.saturating_sub(staying),
                Arc::new(set.template.clone()),
            )
        });
        missing.filter(|(_, count, _)| *count > 0).collect()
    }
}
