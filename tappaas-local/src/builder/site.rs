use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde::Serialize;
use tappaas_core::{
    Chain, Clock, Digest, Error, Name, Result,
    backend::{BuildId, BuildOutcome, BuildRequest, Reference, Registry, Repository},
    model::{BuildSpec, Source},
};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::{
    BuilderConfig, disk,
    ledger::{Finished, Ledger, Pending},
    log::Log,
    run::{Failure, Run},
    sandbox::Sandbox,
    work::{self, check},
};
use crate::{fault::Context as _, fileserver, image::labels, sandbox::HostStack};

/// All that builds share.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) config: BuilderConfig,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) ledger: Ledger,
    pub(super) state: Mutex<State>,
    /// How many runs have ended.
    ended: AtomicU64,
    /// Held while old files are deleted: two at a time would stumble over each other.
    sweeping: Mutex<()>,
    /// Held from looking for a run until it is noted durably: no two runs of one place are begun.
    admission: tokio::sync::Mutex<()>,
    slots: Arc<Semaphore>,
    file_server: Digest,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The runs that wait or run, by place.
    pub(super) running: HashMap<Digest, Arc<Run>>,
    /// One build at a time uses an application's disk.
    turns: HashMap<Repository, Arc<tokio::sync::Mutex<()>>>,
    /// What became of builds that nobody has asked for since the builder was started.
    unclaimed: HashMap<BuildId, Failure>,
    pub(super) stack: Option<Arc<HostStack>>,
}

/// More requests do not wait.
const QUEUE_MAX: usize = 1000;
/// So many more builds than the ledger remembers may be in it.
const PRUNE_EVERY: u64 = 100;
/// A build during which the server ended so often is not begun again: it may be the reason.
const STARTS_MAX: u32 = 3;
/// Raised when the same source would be built to another image.
const RECIPE: u32 = 1;

impl Site {
    pub(super) fn new(config: BuilderConfig, parts: &super::BuilderParts) -> Result<Self> {
        config.check()?;
        for folder in ["log", "disk", "tmp"] {
            let folder = config.data_dir.join(folder);
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder);
            made.context(|| format!("create {}", folder.display()))?;
        }
        let tmp = config.data_dir.join("tmp");
        for entry in fs::read_dir(&tmp).into_iter().flatten().flatten() {
            fs::remove_file(entry.path()).ok();
        }
        Ok(Self {
            sandbox: Arc::new(Sandbox::new(config.data_dir.join("run"), parts, &config)),
            registry: Arc::clone(&parts.registry),
            clock: Arc::clone(&parts.clock),
            ledger: Ledger::new(Arc::clone(&parts.durable)),
            state: Mutex::default(),
            admission: tokio::sync::Mutex::default(),
            slots: Arc::new(Semaphore::new(config.concurrency)),
            file_server: Digest::of(fileserver::PROGRAM),
            ended: AtomicU64::new(0),
            sweeping: Mutex::default(),
            closing: AtomicBool::new(false),
            config,
        })
    }

    /// Begins anew what waited or ran when an earlier builder ended.
    pub(super) async fn resume(self: &Arc<Self>) -> Result<()> {
        for mut pending in self.ledger.pending().await? {
            let id = pending.request.id.clone();
            if pending.starts >= STARTS_MAX {
                let error = Error::internal(format!(
                    "the server ended {} times while this build ran; it is not begun again by itself",
                    pending.starts
                ));
                self.lock()
                    .unclaimed
                    .insert(id.clone(), Failure::of(&error));
                self.ledger.settle(&[id], None).await?;
                continue;
            }
            pending.starts += 1;
            if let Err(error) = self.begin_again(&pending).await {
                self.lock()
                    .unclaimed
                    .insert(id.clone(), Failure::of(&error));
                self.ledger.settle(&[id], None).await?;
            }
        }
        Ok(())
    }

    async fn begin_again(self: &Arc<Self>, pending: &Pending) -> Result<()> {
        let request = &pending.request;
        let place = self.place(request).await?;
        self.ledger.put(pending).await?;
        let running = self.lock().running.get(&place).cloned();
        match running {
            Some(run) => self.join(&run, &request.id),
            None => {
                let run = self.begin(place, request)?;
                run.log.write(
                    "build",
                    false,
                    "the server was started anew; so is this build",
                );
                Ok(())
            }
        }
    }

    /// The stacks that images are made on; the first one if nobody names another.
    pub(super) fn stacks(&self) -> &'static [&'static str] {
        match self.config.elsewhere {
            true => &[labels::SCRATCH],
            false => &[labels::HOST, labels::SCRATCH],
        }
    }

    /// The request with what goes without saying.
    pub(super) fn meant<'a>(&self, request: &'a BuildRequest) -> Cow<'a, BuildRequest> {
        let source = matches!(request.source, Source::Upload { .. } | Source::Git { .. });
        if !self.config.elsewhere || !source || request.spec.stack.is_some() {
            return Cow::Borrowed(request);
        }
        let mut meant = request.clone();
        meant.spec.stack = Some(labels::SCRATCH.to_owned());
        Cow::Owned(meant)
    }

    /// An image that is taken from where it is.
    fn given(&self, source: &Source) -> Option<BuildOutcome> {
        match source {
            Source::Image { reference, image }
                if self.config.elsewhere && image.repository.registry().is_some() =>
            {
                let detected = format!("image {reference}");
                Some(work::outcome(image.clone(), BTreeMap::new(), detected))
            }
            _ => None,
        }
    }

    /// Builds, attaches or answers from what is known.
    pub(super) async fn build(self: &Arc<Self>, request: &BuildRequest) -> Result<BuildOutcome> {
        check(
            &request.source,
            request.spec.strategy,
            request.spec.stack.as_deref(),
            self.stacks(),
        )?;
        if let Some(outcome) = self.given(&request.source) {
            return Ok(outcome);
        }
        if let Some(failure) = self.lock().unclaimed.remove(&request.id) {
            return Err(failure.error());
        }
        let place = self.place(request).await?;
        let run = loop {
            let known = self.ledger.finished(&place).await?;
            if let Some(finished) = &known
                && let Some(outcome) = self.answer(request, finished).await?
            {
                return Ok(outcome);
            }
            let admitted = self.admission.lock().await;
            let running = self.lock().running.get(&place).cloned();
            if let Some(run) = running.as_ref().filter(|run| !run.cancel.is_cancelled()) {
                self.ledger.put(&self.pending(request)).await?;
                self.join(run, &request.id)?;
                break Arc::clone(run);
            }
            if let Some(ending) = running {
                drop(admitted);
                ending.ended().await;
                continue;
            }
            // A run may have ended since.
            let newer = self.ledger.finished(&place).await?;
            if newer.map(|finished| finished.at) == known.map(|finished| finished.at) {
                break self.admit(place, request).await?;
            }
        };
        run.outcome(&request.id).await
    }

    async fn admit(self: &Arc<Self>, place: Digest, request: &BuildRequest) -> Result<Arc<Run>> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::unavailable("the builder is being closed"));
        }
        if self.lock().running.len() >= QUEUE_MAX {
            return Err(Error::exhausted(format!(
                "{QUEUE_MAX} builds are waiting already: try again later"
            )));
        }
        self.ledger.put(&self.pending(request)).await?;
        self.begin(place, request)
    }

    fn begin(self: &Arc<Self>, place: Digest, request: &BuildRequest) -> Result<Arc<Run>> {
        let log = self.log_file(&request.id);
        let log = Log::create(&log, self.config.limits.log.0, Arc::clone(&self.clock))?;
        let run = Arc::new(Run::new(place.clone(), request.clone(), log));
        self.lock().running.insert(place, Arc::clone(&run));
        tokio::spawn(Arc::clone(self).carry_out(Arc::clone(&run)));
        Ok(run)
    }

    /// Attaches a request to a run; its log is the run's.
    fn join(&self, run: &Run, id: &BuildId) -> Result<()> {
        if *id != run.request.id {
            self.share_log(&run.request.id, id)?;
        }
        run.attach(id);
        Ok(())
    }

    fn pending(&self, request: &BuildRequest) -> Pending {
        Pending {
            request: request.clone(),
            since: self.clock.now(),
            starts: 0,
        }
    }

    async fn carry_out(self: Arc<Self>, run: Arc<Run>) {
        let ended = run
            .cancel
            .run_until_cancelled(self.wait_for_turn(&run))
            .await;
        let ended = match ended {
            // What is under way by now sees the cancellation by itself, and leaves nothing behind.
            Some(_turn) => work::work(&self, &run).await,
            None => Err(Error::conflict("the build was cancelled")),
        };
        let ended = match self.interrupted(&run) {
            true => Err(Error::unavailable(
                "the server is being stopped; the build is begun again when it is started",
            )),
            false => ended,
        };
        match &ended {
            Ok(outcome) => run
                .log
                .write("build", false, &format!("built {}", outcome.image)),
            Err(error) => run
                .log
                .write("build", true, &format!("failed: {}", Chain(error))),
        }
        run.log.end();
        self.settle(&run, &ended).await;
        run.end(ended.map_err(|error| Failure::of(&error)));
        self.tidy().await;
    }

    /// Copying an image needs neither a slot nor the application's disk.
    async fn wait_for_turn(
        &self,
        run: &Run,
    ) -> Option<(OwnedMutexGuard<()>, OwnedSemaphorePermit)> {
        if let Source::Image { .. } = run.request.source {
            return None;
        }
        let turn = Arc::clone(
            self.lock()
                .turns
                .entry(run.request.repository.clone())
                .or_default(),
        );
        let turn = turn.lock_owned().await;
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        Some((turn, slot))
    }

    /// It ended because the builder ends, and not for a reason of its own.
    fn interrupted(&self, run: &Run) -> bool {
        self.closing.load(Ordering::Acquire) && run.cancel.is_cancelled()
    }

    async fn settle(&self, run: &Run, ended: &Result<BuildOutcome>) {
        let finished = ended.as_ref().ok().map(|outcome| Finished {
            outcome: outcome.clone(),
            at: self.clock.now(),
            log: run.request.id.clone(),
        });
        let _admitted = self.admission.lock().await;
        if !self.interrupted(run) {
            let row = finished.as_ref().map(|finished| (&run.place, finished));
            if let Err(error) = self.ledger.settle(&run.attached(), row).await {
                // The image is there all the same; after a restart it is built once more.
                tracing::warn!(error = %Chain(&error), "cannot note what a build came to");
            }
        }
        self.lock().running.remove(&run.place);
    }

    /// Ends a request, and its build if no other is attached.
    pub(super) async fn cancel(&self, id: &BuildId) -> Result<()> {
        let _admitted = self.admission.lock().await;
        let runs: Vec<_> = self.lock().running.values().cloned().collect();
        let attached = runs.iter().any(|run| run.detach(id));
        self.lock().unclaimed.remove(id);
        match attached {
            true => self.ledger.settle(std::slice::from_ref(id), None).await,
            false => Ok(()),
        }
    }

    /// Cancels everything that runs, to be begun again by the next builder.
    pub(super) fn interrupt(&self) -> Vec<Arc<Run>> {
        self.closing.store(true, Ordering::Release);
        let runs: Vec<_> = self.lock().running.values().cloned().collect();
        for run in &runs {
            run.cancel.cancel();
        }
        runs
    }

    async fn answer(
        &self,
        request: &BuildRequest,
        finished: &Finished,
    ) -> Result<Option<BuildOutcome>> {
        let image = &finished.outcome.image;
        let reference = Reference::Digest(image.digest.clone());
        if self
            .registry
            .resolve(&image.repository, &reference)
            .await?
            .is_none()
        {
            return Ok(None);
        }
        if finished.log != request.id && self.share_log(&finished.log, &request.id).is_err() {
            let log = Log::create(
                &self.log_file(&request.id),
                self.config.limits.log.0,
                Arc::clone(&self.clock),
            )?;
            log.write(
                "build",
                false,
                "nothing changed since an earlier build, whose log is no longer kept",
            );
            log.end();
        }
        Ok(Some(BuildOutcome {
            cached: true,
            ..finished.outcome.clone()
        }))
    }

    /// What a build's result depends on, and where it goes: requests of the same place share a build.
    async fn place(&self, request: &BuildRequest) -> Result<Digest> {
        #[derive(Serialize)]
        struct Place<'a> {
            recipe: u32,
            source: &'a str,
            spec: &'a BuildSpec,
            stack: Option<&'a str>,
            file_server: &'a Digest,
            repository: &'a Repository,
        }
        let stack = match &request.source {
            Source::Image { .. } | Source::Reference(_) => None,
            Source::Upload { .. } | Source::Git { .. } => Some(self.look().await?),
        };
        let place = Place {
            recipe: RECIPE,
            source: match &request.source {
                Source::Upload { digest, .. } => digest.as_str(),
                Source::Git { commit, .. } => commit,
                Source::Image { image, .. } => image.digest.as_str(),
                Source::Reference(name) => name,
            },
            spec: &request.spec,
            stack: stack.as_ref().map(|stack| stack.fingerprint.as_str()),
            file_server: &self.file_server,
            repository: &request.repository,
        };
        Ok(Digest::of(
            serde_json::to_vec(&place).expect("a place has string keys only"),
        ))
    }

    /// Looks at the machine's stack.
    pub(super) async fn look(&self) -> Result<Arc<HostStack>> {
        let folder = self.config.data_dir.join("stack");
        let toolchains = self.config.toolchains.clone();
        let looked =
            tokio::task::spawn_blocking(move || HostStack::prepare(&folder, &toolchains)).await;
        let broken =
            |error| Error::internal("looking at the machine's stack broke off").with_source(error);
        let stack = Arc::new(looked.map_err(broken)??);
        self.lock().stack = Some(Arc::clone(&stack));
        Ok(stack)
    }

    pub(super) fn disks(&self) -> PathBuf {
        self.config.data_dir.join("disk")
    }

    /// The name of an application's disk and network: a readable beginning and a hash.
    #[expect(
        clippy::unused_self,
        reason = "it reads as what the site calls an application"
    )]
    pub(super) fn application(&self, repository: &Repository) -> String {
        let hash = Digest::of(repository.as_str());
        let last = repository.path().rsplit('/').next().unwrap_or_default();
        match Name::nearest(last) {
            Some(name) => format!("{:.20}-{}", name.as_str(), hash.short()),
            None => hash.short().to_owned(),
        }
    }

    /// A file that is of no use after a run.
    pub(super) fn temporary(&self, run: &Run, end: &str) -> PathBuf {
        self.config
            .data_dir
            .join("tmp")
            .join(format!("{}{end}", run.place.short()))
    }

    pub(super) fn log_file(&self, id: &BuildId) -> PathBuf {
        self.config
            .data_dir
            .join("log")
            .join(format!("{}.log", &Digest::of(&id.0).hex()[..32]))
    }

    /// Makes the log of one request that of another, too.
    fn share_log(&self, from: &BuildId, to: &BuildId) -> Result<()> {
        let (from, to) = (self.log_file(from), self.log_file(to));
        let aside = to.with_extension("new");
        fs::remove_file(&aside).ok();
        let linked = fs::hard_link(&from, &aside).and_then(|()| fs::rename(&aside, &to));
        linked.context(|| format!("link the log {}", to.display()))?;
        // Renaming a name of a file onto another name of it does nothing.
        fs::remove_file(&aside).ok();
        Ok(())
    }

    /// Keeps logs, caches and memories within their bounds.
    async fn tidy(self: &Arc<Self>) {
        // That reads all that is remembered.
        let ended = self.ended.fetch_add(1, Ordering::Relaxed);
        if ended.is_multiple_of(PRUNE_EVERY)
            && let Err(error) = self.ledger.prune().await
        {
            tracing::warn!(error = %Chain(&error), "cannot forget old builds");
        }
        let site = Arc::clone(self);
        let swept = tokio::task::spawn_blocking(move || site.sweep()).await;
        if let Ok(Err(error)) = swept {
            tracing::warn!(%error, "cannot delete old logs and caches of builds");
        }
    }

    fn sweep(&self) -> std::io::Result<()> {
        let _turn = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        let runs: Vec<_> = self.lock().running.values().cloned().collect();
        let in_use: Vec<_> = runs
            .iter()
            .map(|run| self.disks().join(self.application(&run.request.repository)))
            .collect();
        disk::sweep(&self.disks(), self.config.caches.0, |place| {
            in_use.iter().any(|used| used == place)
        })?;
        let mut state = self.lock();
        state.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        drop(state);
        let logs: Vec<_> = runs
            .iter()
            .flat_map(|run| run.attached())
            .map(|id| self.log_file(&id))
            .collect();
        let mut old = Vec::new();
        for entry in fs::read_dir(self.config.data_dir.join("log"))? {
            let entry = entry?;
            // A build that ends gives its log other names meanwhile.
            let Ok(found) = entry.metadata() else {
                continue;
            };
            if !logs.contains(&entry.path()) {
                old.push((found.modified()?, entry.path()));
            }
        }
        old.sort_by(|one, other| other.cmp(one));
        old.iter()
            .skip(self.config.logs)
            .try_for_each(|(_, path)| fs::remove_file(path))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
