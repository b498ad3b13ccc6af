use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::SignedDuration;
use tappaas_core::{
    Clock, Digest, Error, Name, Result, Scope, Timestamp,
    backend::{
        BuildId, BuildOutcome, BuildRequest, Builder, BuilderCapabilities, Content, Image, LogLine,
        Reference, Registry, Repository, Scheduler as _, Tag, Track, WorkloadId, WorkloadStatus,
    },
    controller::Settings,
    memory::{self, Behaviour, Network},
    model::{
        Application, ApplicationContent, ApplicationKey, BuildSpec, Command, Operation,
        OperationSpec, OperationState, Phase, Release, ReleaseSpec, Rollout, Source,
    },
    platform::{Accepted, Backends, Deployment, Platform},
};

use super::guarded::{Guard, Guarded};

/// A platform in memory, with its controllers running.
pub(super) struct World {
    pub(super) platform: Platform,
    pub(super) guard: Guard,
    pub(super) clock: Arc<SteppingClock>,
    pub(super) scheduler: Arc<memory::Scheduler>,
    pub(super) ingress: Arc<memory::Ingress>,
    _controllers: tokio_util::task::AbortOnDropHandle<()>,
}

impl World {
    pub(super) async fn new() -> Self {
        let clock = Arc::new(SteppingClock::default());
        let guard = Guard::default();
        let ids = Arc::new(memory::Ids::new());
        let (network, volumes) = (Network::new(), memory::Volumes::new());
        let scheduler = Arc::new(memory::Scheduler::new(clock.clone(), &network, &volumes));
        let ingress = Arc::new(memory::Ingress::new(clock.clone(), &network));
        let backends = Backends {
            store: guarded(
                Arc::new(memory::Store::new(clock.clone(), ids.clone())),
                &guard,
            ),
            builder: Arc::new(Recipes),
            registry: Arc::new(Nothing),
            scheduler: guarded(scheduler.clone(), &guard),
            ingress: guarded(ingress.clone(), &guard),
            volumes: Arc::new(volumes),
        };
        let platform = Platform::new(backends, Settings::default(), clock.clone(), ids).unwrap();
        let running = platform.clone();
        let controllers = tokio::spawn(async move { running.run().await });
        platform.client().sync().await;
        let [tenant, project, environment] = ["default", "default", "production"].map(name);
        platform
            .create_environment(&tenant, &project, &environment)
            .await
            .unwrap();
        Self {
            platform,
            guard,
            clock,
            scheduler,
            ingress,
            _controllers: tokio_util::task::AbortOnDropHandle::new(controllers),
        }
    }

    /// Says how the images of a source behave.
    pub(super) fn behave(&self, source: &str, behaviour: Behaviour) {
        self.scheduler
            .behave_by_image(image(source).digest, behaviour);
    }

    pub(super) async fn deploy(
        &self,
        app: &str,
        content: ApplicationContent,
        scale: u32,
    ) -> Accepted {
        let scale = BTreeMap::from([(name("web"), scale)]);
        self.platform
            .deploy(
                &key(app),
                Deployment {
                    content,
                    scale,
                    autoscale: BTreeMap::new(),
                },
            )
            .await
            .unwrap()
    }

    /// Deploys and waits until the operation ended.
    pub(super) async fn deployed(
        &self,
        app: &str,
        content: ApplicationContent,
        scale: u32,
    ) -> Operation {
        let accepted = self.deploy(app, content, scale).await;
        self.ended(&accepted).await
    }

    pub(super) async fn ended(&self, accepted: &Accepted) -> Operation {
        let id = accepted.operation.clone().expect("something changed");
        let operation = || {
            self.platform
                .client()
                .get::<OperationSpec>(&scope(), &id)
                .unwrap()
        };
        self.until("the operation ends", || {
            operation().filter(|operation| operation.status.state.ended())
        })
        .await
    }

    /// Deploys, and insists that it goes well.
    pub(super) async fn healthy(
        &self,
        app: &str,
        content: ApplicationContent,
        scale: u32,
    ) -> Operation {
        let operation = self.deployed(app, content, scale).await;
        assert_eq!(
            operation.status.state,
            OperationState::Succeeded,
            "{}",
            operation.status.message
        );
        operation
    }

    /// Waits until nothing is left to do for an application.
    pub(super) async fn settled(&self, app: &str) -> Application {
        let ready = || {
            let application = self.application(app)?;
            let fresh = application.status.generation == application.metadata.generation;
            let done = matches!(application.status.phase, Phase::Running | Phase::Failed);
            (fresh && done && application.status.draining.is_empty()).then_some(application)
        };
        let mut settled = self.until("the application settles", ready).await;
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let later = self.until("the application settles", ready).await;
            if later == settled {
                return settled;
            }
            settled = later;
        }
    }

    pub(super) async fn until<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let poll = async {
            loop {
                if let Some(found) = condition() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let limit = Duration::from_secs(3600);
        match tokio::time::timeout(limit, poll).await {
            Ok(found) => found,
            Err(_) => panic!(
                "{what}: not within an hour; {:#?}",
                self.application("web").map(|a| a.status)
            ),
        }
    }

    pub(super) fn application(&self, app: &str) -> Option<Application> {
        self.platform.application(&key(app)).ok()
    }

    pub(super) fn releases(&self, app: &str) -> Vec<Release> {
        let mut releases = self.platform.client().list::<ReleaseSpec>(&scope());
        releases.retain(|release| release.spec.application == *app);
        releases
    }

    pub(super) async fn workload(&self, app: &str, process: &str) -> Option<WorkloadStatus> {
        let id = WorkloadId {
            application: key(app),
            process: name(process),
            track: Track::Stable,
        };
        self.scheduler.observe(&id).await.unwrap()
    }

    /// The count of each release of process `web`.
    pub(super) async fn counts(&self, app: &str) -> BTreeMap<u64, u32> {
        self.workload(app, "web")
            .await
            .map(|status| status.counts)
            .unwrap_or_default()
    }
}

/// A clock whose wall-clock time a test can set back or forward.
#[derive(Debug, Default)]
pub(super) struct SteppingClock {
    inner: memory::Clock,
    seconds: AtomicI64,
}

impl SteppingClock {
    pub(super) fn step(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for SteppingClock {
    fn now(&self) -> Timestamp {
        let step = SignedDuration::from_secs(self.seconds.load(Ordering::Relaxed));
        self.inner.now() + step
    }

    async fn sleep(&self, duration: Duration) {
        self.inner.sleep(duration).await;
    }
}

fn guarded<T>(inner: Arc<T>, guard: &Guard) -> Arc<Guarded<T>> {
    let guard = guard.clone();
    Arc::new(Guarded { inner, guard })
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn key(app: &str) -> ApplicationKey {
    format!("default/default/production/{app}").parse().unwrap()
}

pub(super) fn scope() -> Scope {
    key("any").scope()
}

pub(super) fn image(source: &str) -> Image {
    Image {
        repository: "images".parse().unwrap(),
        digest: Digest::of(source),
    }
}

/// The content of an application whose code is told apart by a word.
pub(super) fn content(source: &str) -> ApplicationContent {
    ApplicationContent {
        source: Source::Upload {
            repository: "default/default/production/sources".parse().unwrap(),
            digest: Digest::of(source),
        },
        build: BuildSpec::default(),
        processes: BTreeMap::new(),
        environment: BTreeMap::new(),
        overrides: BTreeMap::new(),
        config: BTreeMap::new(),
        volumes: BTreeMap::new(),
        bindings: BTreeMap::new(),
        routes: Vec::new(),
        rollout: Rollout {
            deadline_seconds: 60,
            drain_seconds: 10,
            ..Rollout::default()
        },
        release_command: None,
    }
}

fn made(image: Image) -> BuildOutcome {
    BuildOutcome {
        image,
        processes: BTreeMap::from([(name("web"), Command::Exec(vec!["web".to_owned()]))]),
        detected: "a recipe".to_owned(),
        stack: None,
        cached: false,
    }
}

/// Builds anything but sources called `broken` at once.
#[derive(Debug)]
struct Recipes;

#[async_trait]
impl Builder for Recipes {
    fn capabilities(&self) -> BuilderCapabilities {
        BuilderCapabilities {
            sources: true,
            ..BuilderCapabilities::default()
        }
    }

    async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome> {
        let digest = match &request.source {
            Source::Upload { digest, .. } => digest,
            Source::Image { image, .. } => return Ok(made(image.clone())),
            Source::Git { .. } | Source::Reference(_) => {
                return Err(Error::unsupported("only uploads and images"));
            }
        };
        if *digest == Digest::of("broken") {
            return Err(Error::invalid("main.go:3: syntax error"));
        }
        if *digest == Digest::of("endless") {
            std::future::pending::<()>().await;
        }
        Ok(made(Image {
            repository: "images".parse()?,
            digest: digest.clone(),
        }))
    }

    async fn list(&self) -> Result<Vec<BuildId>> {
        Ok(Vec::new())
    }

    async fn cancel(&self, _: &BuildId) -> Result<()> {
        Ok(())
    }

    async fn logs(&self, _: &BuildId, _: bool) -> Result<BoxStream<'static, Result<LogLine>>> {
        Ok(Box::pin(futures::stream::empty()))
    }
}

/// A registry that these tests never ask.
#[derive(Debug)]
struct Nothing;

fn nothing<T>() -> Result<T> {
    Err(Error::unsupported("not in this test"))
}

#[async_trait]
impl Registry for Nothing {
    async fn resolve(&self, _: &Repository, _: &Reference) -> Result<Option<Digest>> {
        nothing()
    }

    async fn pull(
        &self,
        _: &Repository,
        _: &Content,
    ) -> Result<BoxStream<'static, Result<bytes::Bytes>>> {
        nothing()
    }

    async fn push(
        &self,
        _: &Repository,
        _: &Content,
        _: BoxStream<'static, Result<bytes::Bytes>>,
    ) -> Result<()> {
        nothing()
    }

    async fn tag(&self, _: &Repository, _: &Digest, _: &Tag) -> Result<()> {
        nothing()
    }

    async fn list(&self, _: &Repository) -> Result<Vec<Tag>> {
        nothing()
    }

    async fn delete(&self, _: &Repository, _: &Reference) -> Result<()> {
        nothing()
    }
}
