use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tappaas_core::{
    Batch, Digest, Error, Result,
    backend::{
        InstanceId, InstanceState, InstanceStatus, Peer, Workload, WorkloadId, WorkloadStatus,
    },
    model::ApplicationKey,
};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    about::About,
    admission::Missing,
    changes::Changes,
    ground::Ground,
    life::{Begun, Life},
    table::{Seat, Table},
};

/// The table of applied workloads in the store. The environment of their templates is in it, unencrypted.
pub(super) const WORKLOADS: &str = "local.workloads";

/// Everything that a scheduler and its instances share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) ground: Ground,
    pub(super) changes: Changes,
    /// Something went: there may be folders, layers or users to give back.
    pub(super) sweep: Notify,
    /// One sweep after the other: who waits for one knows that those before are done.
    pub(super) sweeping: tokio::sync::Mutex<()>,
    /// What applications have is taken and given back one after another, for each.
    turns: [tokio::sync::Mutex<()>; TURNS],
    state: Mutex<State>,
}

const TURNS: usize = 64;

#[derive(Debug, Default)]
struct State {
    table: Table,
    /// The lives of all instances.
    lives: JoinSet<()>,
    /// Applications of which the last workload went.
    left: BTreeSet<ApplicationKey>,
    /// Instances of which nothing is kept any longer.
    forgotten: Vec<InstanceId>,
    /// The scheduler is gone: nothing starts any more.
    closed: bool,
}

impl World {
    pub(super) fn new(ground: Ground) -> Self {
        Self {
            ground,
            changes: Changes::default(),
            sweep: Notify::new(),
            sweeping: tokio::sync::Mutex::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            state: Mutex::default(),
        }
    }

    /// Takes a workload: durably first.
    pub(super) async fn apply(self: &Arc<Self>, workload: &Workload) -> Result<()> {
        let _turn = self.turn(&workload.id.application).await;
        let content = workload.content();
        if let Some((generation, last)) = self.applied(&workload.id)
            && !workload.supersedes(generation, &last)?
        {
            return Ok(());
        }
        let json = serde_json::to_vec(workload);
        let json = json.map_err(|error| {
            Error::internal(format!("{} has no JSON form", workload.id)).with_source(error)
        })?;
        let row = Batch::new().put(WORKLOADS, workload.id.to_string().as_bytes(), &json);
        self.ground.durable.commit(row).await?;
        {
            let mut state = self.state();
            let entry = state.table.0.entry(workload.id.clone()).or_default();
            entry.wanted = Some((workload.clone(), content));
            entry.unread = false;
            self.settle(&mut state);
        }
        self.changes.tell(&workload.id);
        self.open_doors(&workload.id.application).await
    }

    /// Takes back what an earlier server was told, and what it left: called before anything else runs.
    pub(super) fn restore(
        self: &Arc<Self>,
        workloads: Vec<Workload>,
        unread: Vec<WorkloadId>,
        ended: Vec<About>,
    ) {
        let mut state = self.state();
        for id in unread {
            state.table.0.entry(id).or_default().unread = true;
        }
        for workload in workloads {
            let (id, content) = (workload.id.clone(), workload.content());
            state.table.0.entry(id).or_default().wanted = Some((workload, content));
        }
        for about in ended {
            state
                .table
                .0
                .entry(about.workload.clone())
                .or_default()
                .ended
                .push_back(about);
        }
    }

    /// Takes an instance over that an earlier server started.
    pub(super) fn adopt(self: &Arc<Self>, about: About, begun: Begun, status: InstanceStatus) {
        let mut state = self.state();
        self.live(&mut state, about, begun, status, None);
    }

    /// Starts what is missing and stops what is too many.
    pub(super) fn begin(self: &Arc<Self>) {
        self.settle(&mut self.state());
    }

    pub(super) async fn remove(self: &Arc<Self>, id: &WorkloadId) -> Result<()> {
        let _turn = self.turn(&id.application).await;
        self.ground
            .durable
            .commit(Batch::new().delete(WORKLOADS, id.to_string().as_bytes()))
            .await?;
        let mut state = self.state();
        if let Some(entry) = state.table.0.get_mut(id) {
            entry.wanted = None;
            entry.unread = false;
            self.settle(&mut state);
            self.changes.tell(id);
        }
        Ok(())
    }

    pub(super) fn observe(&self, id: &WorkloadId) -> Option<WorkloadStatus> {
        self.state().table.0.get(id)?.status()
    }

    pub(super) fn list(&self) -> Vec<WorkloadId> {
        self.state().table.0.keys().cloned().collect()
    }

    /// Every instance of an application, also ended ones, of which a log is kept.
    pub(super) fn abouts(&self, application: &ApplicationKey) -> Vec<About> {
        let state = self.state();
        let entries = state
            .table
            .0
            .iter()
            .filter(|(id, _)| id.application == *application);
        let abouts = entries.flat_map(|(_, entry)| {
            entry
                .ended
                .iter()
                .chain(entry.instances.iter().map(|seat| &seat.about))
        });
        abouts.cloned().collect()
    }

    /// The instance where a command can run: the one asked for, or any ready one.
    pub(super) fn inside(
        &self,
        workload: &WorkloadId,
        id: Option<&InstanceId>,
    ) -> Result<crate::Instance> {
        let state = self.state();
        let mut seats = state
            .table
            .0
            .get(workload)
            .into_iter()
            .flat_map(|entry| &entry.instances);
        let seat = seats.find(|seat| match id {
            Some(id) => seat.about.id == *id,
            None => seat.status.ready,
        });
        let seat = seat.ok_or_else(|| match id {
            Some(id) => Error::not_found(format!("{workload} has no instance {id}")),
            None => Error::not_found(format!("{workload} has no ready instance")),
        })?;
        match &seat.running {
            Some(instance) if seat.status.state == InstanceState::Running => Ok(instance.clone()),
            _ => Err(Error::not_found(format!(
                "no process runs in instance {}",
                seat.about.id
            ))),
        }
    }

    /// Changes what is known of an instance, and tells watchers if that is news.
    pub(super) fn update(&self, about: &About, change: impl FnOnce(&mut Seat)) {
        let mut state = self.state();
        let Some(seat) = state.table.seat(about) else {
            return;
        };
        let before = seat.status.clone();
        change(seat);
        if seat.stop.is_cancelled() {
            // What is told to stop never looks alive again.
            seat.status.state = InstanceState::Stopping;
            seat.status.ready = false;
        }
        let (mut told, mut now) = (before, seat.status.clone());
        (told.usage, now.usage) = (None, None);
        if told != now {
            self.changes.tell(&about.workload);
        }
    }

    /// Marks an instance as one to be replaced, and starts the replacement.
    pub(super) fn lose(self: &Arc<Self>, about: &About) {
        self.update(about, |seat| {
            seat.lost = true;
            seat.running = None;
            seat.status.reason = Some("its supervisor died; it is being replaced".to_owned());
        });
        self.settle(&mut self.state());
    }

    pub(super) fn replaced(&self, about: &About) -> bool {
        let state = self.state();
        state
            .table
            .0
            .get(&about.workload)
            .is_none_or(|entry| entry.replaced(about))
    }

    /// Takes an instance off the table that is over; its log stays for a while.
    pub(super) fn gone(self: &Arc<Self>, about: &About) {
        let mut state = self.state();
        if let Some(entry) = state.table.0.get_mut(&about.workload) {
            entry.instances.retain(|seat| seat.about.id != about.id);
            let mut last = about.clone();
            last.gone = true;
            entry.ended.push_back(last);
        }
        self.settle(&mut state);
        self.changes.tell(&about.workload);
        self.sweep.notify_one();
    }

    /// Applications with anything on the table.
    pub(super) fn applications(&self) -> BTreeSet<ApplicationKey> {
        self.state()
            .table
            .0
            .keys()
            .map(|id| id.application.clone())
            .collect()
    }

    /// The images that a workload or an instance refers to.
    pub(super) fn images(&self) -> BTreeSet<Digest> {
        let state = self.state();
        let wanted = state
            .table
            .0
            .values()
            .flat_map(|entry| entry.wanted.iter().flat_map(|(wanted, _)| &wanted.releases));
        let running = state.table.0.values().flat_map(|entry| &entry.instances);
        let wanted = wanted.map(|set| set.template.image.digest.clone());
        wanted
            .chain(running.map(|seat| seat.about.template.image.digest.clone()))
            .collect()
    }

    /// Applications that may have nothing on the table any more. Told once.
    pub(super) fn take_left(&self) -> BTreeSet<ApplicationKey> {
        std::mem::take(&mut self.state().left)
    }

    /// Tells the next sweep of an application that this one could not clean up after.
    pub(super) fn put_left(&self, application: ApplicationKey) {
        self.state().left.insert(application);
    }

    /// Instances whose logs need not be kept any longer. They are off the table then.
    pub(super) fn take_old_logs(&self) -> Vec<InstanceId> {
        let most = self.ground.config.logs.ended_instances;
        let mut state = self.state();
        let mut old = std::mem::take(&mut state.forgotten);
        for entry in state.table.0.values_mut() {
            let surplus = entry.ended.len().saturating_sub(most);
            old.extend(entry.ended.drain(..surplus).map(|about| about.id));
        }
        old
    }

    /// What the instances of an application may reach.
    pub(super) fn peers_of(&self, application: &ApplicationKey) -> BTreeSet<Peer> {
        let state = self.state();
        let entries = state
            .table
            .0
            .iter()
            .filter(|(id, _)| id.application == *application);
        let templates = entries.flat_map(|(_, entry)| entry.templates());
        templates
            .flat_map(|template| template.peers.iter().cloned())
            .collect()
    }

    /// Lets go of everything: instances go on without this process.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.lives.abort_all();
    }

    fn settle(self: &Arc<Self>, state: &mut State) {
        if state.closed {
            return;
        }
        while state.lives.try_join_next().is_some() {}
        for (id, entry) in state.table.retire() {
            let over = entry.ended.into_iter().map(|about| about.id);
            state.forgotten.extend(over);
            state.left.insert(id.application);
            self.sweep.notify_one();
        }
        loop {
            let admitted = state.table.admit(&self.ground.node);
            if admitted.is_empty() {
                break;
            }
            for missing in admitted {
                self.start(state, missing);
            }
        }
    }

    fn start(self: &Arc<Self>, state: &mut State, missing: Missing) {
        let about = About {
            id: self.new_id(&missing.workload),
            workload: missing.workload,
            release: missing.release,
            created: self.ground.clock.now(),
            template: tappaas_core::backend::Template {
                environment: BTreeMap::new(),
                ..(*missing.template).clone()
            },
            ports: BTreeMap::new(),
            ready: None,
            gone: false,
        };
        let status = self.first_status(&about);
        self.live(state, about, Begun::New, status, Some(missing.template));
    }

    fn live(
        self: &Arc<Self>,
        state: &mut State,
        about: About,
        begun: Begun,
        status: InstanceStatus,
        template: Option<Arc<tappaas_core::backend::Template>>,
    ) {
        let stop = CancellationToken::new();
        let seat = Seat {
            about: about.clone(),
            status,
            stop: stop.clone(),
            lost: false,
            running: begun.instance().cloned(),
        };
        state
            .table
            .0
            .entry(about.workload.clone())
            .or_default()
            .instances
            .push(seat);
        let template = template.unwrap_or_else(|| Arc::new(about.template.clone()));
        let life = Life {
            world: Arc::clone(self),
            about,
            template,
            stop,
        };
        state.lives.spawn(life.live(begun));
    }

    pub(super) fn first_status(&self, about: &About) -> InstanceStatus {
        InstanceStatus {
            id: about.id.clone(),
            release: about.release,
            node: self.ground.node.name.clone(),
            state: InstanceState::Starting,
            ready: false,
            endpoints: BTreeMap::new(),
            found_port: None,
            restarts: 0,
            created: about.created,
            reason: Some("it is starting".to_owned()),
            exit: None,
            usage: None,
        }
    }

    /// Short, for it is part of a socket's path: the process's name and 48 bits of a hash.
    fn new_id(&self, workload: &WorkloadId) -> InstanceId {
        let unique = Digest::of(format!("{workload} {}", self.ground.ids.unique()));
        let readable: String = workload.process.as_str().chars().take(20).collect();
        InstanceId(format!(
            "{}-{}",
            readable.trim_end_matches('-'),
            unique.short()
        ))
    }

    fn applied(&self, id: &WorkloadId) -> Option<(u64, Digest)> {
        let state = self.state();
        let (wanted, content) = state.table.0.get(id)?.wanted.as_ref()?;
        Some((wanted.generation, content.clone()))
    }

    pub(super) async fn turn(
        &self,
        application: &ApplicationKey,
    ) -> tokio::sync::MutexGuard<'_, ()> {
        use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(application);
        self.turns[(hash % TURNS as u64) as usize].lock().await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No guarded section leaves its data half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
