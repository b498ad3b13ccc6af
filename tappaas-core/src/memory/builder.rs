use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{lock::lock, registry::Manifest};
use crate::{
    Clock, Digest, Error, ErrorKind, Name, Result, Timestamp,
    backend::{
        self, BuildId, BuildOutcome, BuildRequest, BuilderCapabilities, Content, Image, LogLine,
        Reference, Registry, Repository,
    },
    model::{Command, Source},
};

/// So many requests are remembered for their logs.
const REQUESTS_MAX: usize = 1000;
/// The name of the only stack.
const STACK: &str = "memory";

/// A builder that does what each source's [`Recipe`] says and pushes a small but whole image. Dropping it ends its builds.
#[derive(Debug)]
pub struct Builder {
    site: Arc<Site>,
}

/// What building a source comes to. The default takes no time and finds a process `web`.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// How long it takes.
    pub takes: Duration,
    /// The lines it writes at its start.
    pub output: Vec<String>,
    /// How it fails, with which message; `None`: it succeeds.
    pub fails: Option<(ErrorKind, String)>,
    /// The processes it finds.
    pub processes: BTreeMap<Name, Command>,
}

impl Default for Recipe {
    fn default() -> Self {
        let web = Name::new("web").expect("`web` is a name");
        Self {
            takes: Duration::ZERO,
            output: vec!["building".to_owned()],
            fails: None,
            processes: BTreeMap::from([(web, Command::Exec(vec!["serve".to_owned()]))]),
        }
    }
}

#[derive(Debug)]
struct Site {
    clock: Arc<dyn Clock>,
    registry: Arc<dyn Registry>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fingerprint: u64,
    recipes: Vec<(Source, Recipe)>,
    running: HashMap<Digest, Arc<Run>>,
    finished: HashMap<Digest, BuildOutcome>,
    /// The newest run of each request, oldest request first.
    requests: VecDeque<(BuildId, Arc<Run>)>,
    builds: JoinSet<()>,
}

/// One run of the builder, for all requests that are attached to it.
#[derive(Debug)]
struct Run {
    progress: watch::Sender<Progress>,
    cancel: CancellationToken,
}

#[derive(Debug, Default)]
struct Progress {
    attached: BTreeSet<BuildId>,
    lines: Vec<LogLine>,
    end: Option<Result<BuildOutcome, (ErrorKind, String)>>,
}

impl Builder {
    /// Creates a builder that reads uploaded sources from `registry` and pushes images to it.
    pub fn new(clock: Arc<dyn Clock>, registry: Arc<dyn Registry>) -> Self {
        let site = Site {
            clock,
            registry,
            state: Mutex::default(),
        };
        Self {
            site: Arc::new(site),
        }
    }

    /// From now on building this source comes to this.
    pub fn set_recipe(&self, source: Source, recipe: Recipe) {
        lock(&self.site.state).recipes.push((source, recipe));
    }

    /// Changes the stack, as an update of a machine would: its fingerprint is another one now.
    pub fn change_stack(&self) {
        lock(&self.site.state).fingerprint += 1;
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        lock(&self.site.state).builds.abort_all();
    }
}

#[async_trait]
impl backend::Builder for Builder {
    fn capabilities(&self) -> BuilderCapabilities {
        let fingerprint = lock(&self.site.state).fingerprint.to_string();
        BuilderCapabilities {
            stacks: BTreeMap::from([(STACK.to_owned(), fingerprint)]),
            sources: true,
            host_stack: true,
        }
    }

    async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome> {
        if let Some(stack) = request.spec.stack.as_ref().filter(|stack| *stack != STACK) {
            return Err(Error::invalid(format!(
                "there is no stack `{stack}`; there is `{STACK}`"
            )));
        }
        let known = self.site.finished(request);
        if let Some(outcome) = known
            && self
                .site
                .registry
                .resolve(
                    &outcome.image.repository,
                    &Reference::Digest(outcome.image.digest.clone()),
                )
                .await?
                .is_some()
        {
            return Ok(BuildOutcome {
                cached: true,
                ..outcome
            });
        }
        let run = self.site.attach(request);
        run.outcome(&request.id).await
    }

    async fn list(&self) -> Result<Vec<BuildId>> {
        let state = lock(&self.site.state);
        let mut ids = BTreeSet::new();
        for run in state.running.values() {
            ids.extend(run.progress.borrow().attached.iter().cloned());
        }
        Ok(ids.into_iter().collect())
    }

    async fn cancel(&self, id: &BuildId) -> Result<()> {
        for run in lock(&self.site.state).running.values() {
            run.progress.send_if_modified(|progress| {
                let removed = progress.attached.remove(id);
                if removed && progress.attached.is_empty() {
                    run.cancel.cancel();
                }
                removed
            });
        }
        Ok(())
    }

    async fn logs(
        &self,
        id: &BuildId,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        let state = lock(&self.site.state);
        let run = state.requests.iter().rev().find(|(known, _)| known == id);
        let (_, run) = run.ok_or_else(|| Error::not_found(format!("there is no build {id}")))?;
        Ok(run.logs(follow))
    }
}

impl Site {
    fn finished(&self, request: &BuildRequest) -> Option<BuildOutcome> {
        let state = lock(&self.state);
        state.finished.get(&state.place(request)).cloned()
    }

    /// The run of a request's key, a new one if there is none.
    fn attach(self: &Arc<Self>, request: &BuildRequest) -> Arc<Run> {
        let mut state = lock(&self.state);
        while state.builds.try_join_next().is_some() {}
        let place = state.place(request);
        let running = state.running.get(&place).cloned();
        let run = running.unwrap_or_else(|| {
            let run = Arc::new(Run {
                progress: watch::Sender::default(),
                cancel: CancellationToken::new(),
            });
            state.running.insert(place.clone(), Arc::clone(&run));
            let (site, request) = (Arc::clone(self), request.clone());
            let building = site.run(Arc::clone(&run), request, place);
            state.builds.spawn(building);
            run
        });
        run.progress
            .send_modify(|progress| _ = progress.attached.insert(request.id.clone()));
        state.requests.retain(|(id, _)| *id != request.id);
        if state.requests.len() == REQUESTS_MAX {
            state.requests.pop_front();
        }
        state
            .requests
            .push_back((request.id.clone(), Arc::clone(&run)));
        run
    }

    async fn run(self: Arc<Self>, run: Arc<Run>, request: BuildRequest, place: Digest) {
        let built = run.cancel.run_until_cancelled(self.build(&run, &request));
        let end = match built.await {
            Some(Ok(outcome)) => Ok(outcome),
            Some(Err(error)) => Err((error.kind(), error.message().to_owned())),
            None => Err((ErrorKind::Conflict, "the build was cancelled".to_owned())),
        };
        let mut state = lock(&self.state);
        state.running.remove(&place);
        if let Ok(outcome) = &end {
            state.finished.insert(place, outcome.clone());
        }
        run.progress
            .send_modify(|progress| progress.end = Some(end));
    }

    async fn build(&self, run: &Run, request: &BuildRequest) -> Result<BuildOutcome> {
        let (recipe, key) = {
            let state = lock(&self.state);
            (state.recipe(&request.source), state.key(request))
        };
        for line in &recipe.output {
            run.write(self.clock.now(), line);
        }
        self.clock.sleep(recipe.takes).await;
        if let Some((kind, message)) = recipe.fails {
            return Err(Error::new(kind, message));
        }
        let digest = match &request.source {
            Source::Image { image, .. } => {
                self.copy(image, &request.repository).await?;
                image.digest.clone()
            }
            Source::Upload { repository, digest } => {
                let blob = Content::Blob(digest.clone());
                self.read(repository, &blob).await?;
                self.push_image(&key, &request.repository).await?
            }
            Source::Git { .. } => self.push_image(&key, &request.repository).await?,
            Source::Reference(name) => return Err(name_alone(name)),
        };
        run.write(self.clock.now(), "done");
        Ok(BuildOutcome {
            image: Image {
                repository: request.repository.clone(),
                digest,
            },
            processes: recipe.processes,
            detected: "a recipe".to_owned(),
            stack: Some(STACK.to_owned()),
            cached: false,
        })
    }

    /// Makes the image of a key: one layer that says which.
    async fn push_image(&self, key: &Digest, repository: &Repository) -> Result<Digest> {
        let config = json!({ "architecture": "amd64", "os": "linux" }).to_string();
        let layer = format!("built from {key}");
        let describe = |media_type: &str, content: &str| json!({ "mediaType": media_type, "digest": Digest::of(content), "size": content.len() });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": [describe("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        let manifest = manifest.to_string();
        let digest = Digest::of(&manifest);
        for (content, bytes) in [
            (Content::Blob(Digest::of(&config)), config),
            (Content::Blob(Digest::of(&layer)), layer),
            (Content::Manifest(digest.clone()), manifest),
        ] {
            self.write(repository, &content, bytes.into()).await?;
        }
        Ok(digest)
    }

    /// Copies an image, or every image of an index, between repositories.
    async fn copy(&self, image: &Image, to: &Repository) -> Result<()> {
        // Children come before what names them: each content is read once, and written in the opposite order.
        let mut found = vec![Content::Manifest(image.digest.clone())];
        let mut contents = Vec::new();
        while let Some(content) = found.pop() {
            let bytes = self.read(&image.repository, &content).await?;
            if let Content::Manifest(_) = &content {
                found.extend(Manifest::parse(&bytes)?.names());
            }
            contents.push((content, bytes));
        }
        for (content, bytes) in contents.into_iter().rev() {
            self.write(to, &content, bytes).await?;
        }
        Ok(())
    }

    async fn read(&self, repository: &Repository, content: &Content) -> Result<Bytes> {
        let bytes = self.registry.pull(repository, content).await?;
        let chunks: Vec<Bytes> = bytes.try_collect().await?;
        Ok(chunks.concat().into())
    }

    async fn write(&self, repository: &Repository, content: &Content, bytes: Bytes) -> Result<()> {
        let bytes = stream::iter([Ok(bytes)]).boxed();
        self.registry.push(repository, content, bytes).await
    }
}

impl State {
    fn recipe(&self, source: &Source) -> Recipe {
        let mut known = self.recipes.iter().rev();
        let recipe = known.find(|(known, _)| known == source);
        recipe.map(|(_, recipe)| recipe.clone()).unwrap_or_default()
    }

    /// What a build's result depends on.
    fn key(&self, request: &BuildRequest) -> Digest {
        let source = match &request.source {
            Source::Upload { digest, .. } => digest.as_str(),
            Source::Git { commit, .. } => commit,
            Source::Image { image, .. } => image.digest.as_str(),
            Source::Reference(name) => name,
        };
        let key = (source, &request.spec, self.fingerprint);
        Digest::of(serde_json::to_vec(&key).expect("a build's key has string keys only"))
    }

    /// A key in a repository: where two requests can share a build.
    fn place(&self, request: &BuildRequest) -> Digest {
        Digest::of(format!("{} {}", self.key(request), request.repository))
    }
}

impl Run {
    fn write(&self, at: Timestamp, text: &str) {
        let line = LogLine {
            at,
            origin: "build".to_owned(),
            error: false,
            text: text.to_owned(),
        };
        self.progress
            .send_modify(|progress| progress.lines.push(line));
    }

    /// Waits until the build ended, or `id` was cancelled.
    async fn outcome(&self, id: &BuildId) -> Result<BuildOutcome> {
        let mut progress = self.progress.subscribe();
        let done = |progress: &Progress| progress.end.is_some() || !progress.attached.contains(id);
        let progress = progress.wait_for(done).await;
        let progress = progress.map_err(|_| Error::unavailable("the builder is gone"))?;
        match &progress.end {
            Some(Ok(outcome)) => Ok(outcome.clone()),
            Some(Err((kind, message))) => Err(Error::new(*kind, message)),
            None => Err(Error::conflict(format!("build {id} was cancelled"))),
        }
    }

    fn logs(&self, follow: bool) -> BoxStream<'static, Result<LogLine>> {
        let state = (self.progress.subscribe(), 0);
        let lines = stream::unfold(state, move |(mut progress, next)| async move {
            let more = |progress: &Progress| {
                !follow || progress.end.is_some() || progress.lines.len() > next
            };
            let line = progress
                .wait_for(more)
                .await
                .ok()?
                .lines
                .get(next)
                .cloned()?;
            Some((Ok(line), (progress, next + 1)))
        });
        lines.boxed()
    }
}

fn name_alone(name: &str) -> Error {
    Error::internal(format!(
        "nobody found out which image `{name}` means before it was asked for"
    ))
}
