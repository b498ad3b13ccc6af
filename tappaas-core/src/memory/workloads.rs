use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    Network, Volumes,
    behaviour::Behaviours,
    changes::Changes,
    entry::{Entry, Instance},
    lock::lock,
    logs::Logs,
    userland::Inside,
};
use crate::{
    Clock, Error, Result,
    backend::{
        InstanceId, InstanceState, InstanceStatus, Node, Peer, PeerAddress, Workload, WorkloadId,
        WorkloadStatus,
    },
    model::ApplicationKey,
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
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) nodes: Vec<Node>,
    pub(super) behaviours: Behaviours,
    pub(super) workloads: BTreeMap<WorkloadId, Entry>,
    peers: BTreeMap<(ApplicationKey, Peer), SocketAddr>,
    /// Instances ever made.
    /// The lives of all instances.
    pub(super) lives: JoinSet<()>,
    /// The scheduler is gone: nothing starts any more.
    pub(super) closed: bool,
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

    /// From now on instances that start behave so.
    pub(super) fn behave(&self, change: impl FnOnce(&mut Behaviours)) {
        change(&mut lock(&self.state).behaviours);
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
        lock(&self.state).workloads.get(id)?.status()
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
        let key = (from.clone(), peer.clone());
        let address = state.peers.entry(key);
        let address =
            *address.or_insert_with(|| SocketAddr::from((self.network.assign(), PEER_PORT)));
        PeerAddress {
            host: address.ip().to_string(),
            port: address.port(),
            listen: Some(address),
        }
    }

    /// Says whether an instance reaches an address: that of a peer that its template names.
    pub(super) fn reaches(&self, inside: &Inside, address: SocketAddr) -> bool {
        let state = lock(&self.state);
        let mut peers = state.peers.iter();
        peers.any(|((from, peer), at)| {
            *at == address
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
}

impl State {
    fn instance(&mut self, inside: &Inside) -> Option<&mut Instance> {
        let instances = &mut self.workloads.get_mut(&inside.workload)?.instances;
        let mut instances = instances.iter_mut();
        instances.find(|instance| instance.status.id == inside.instance)
    }
}
