//! Keyed, level-triggered reconcilers: each run reads desired and observed state afresh, plans purely, and executes idempotent steps.

mod allotment;
pub mod application;
mod build;
mod domains;
mod drive;
mod environment;
mod garbage;
mod queue;
mod tenancy;
mod unreadable;
mod wakes;
mod whose;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, task::JoinSet};

pub use self::domains::Domains;
use self::{
    application::ApplicationController,
    build::BuildController,
    drive::{Pace, Reconcile, drive},
    environment::EnvironmentController,
    garbage::GarbageController,
    tenancy::TenancyController,
};

use crate::{
    Clock, Error, Ids, Result, Store,
    backend::Repository,
    client::Client,
    model::{
        ApplicationKey, Host,
        check::{BASE_MAX, BASE_WRONG},
    },
    platform::Backends,
};

/// Marks applications that still run something.
pub(crate) const FINALIZER: &str = "tappaas.dev/application";

/// How controllers work.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The domain under which applications get their default hosts; at most 80 characters.
    pub base: Host,
    /// What comes before the names of images in the registry: a host and path of an outside registry, or nothing.
    pub registry: Option<Repository>,
    /// The hosts, with their ports, by which others know the platform's own registry. What they name there is each tenant's own, as if it
    /// were named without a host.
    pub registry_names: Vec<String>,
    /// Applications worked on at the same time.
    pub concurrency: usize,
    /// Builds run at the same time.
    pub builds: usize,
    /// Time between looks at everything, in the store too, should a change have been missed.
    pub resync: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            base: "localhost".parse().expect("`localhost` is a host"),
            registry: None,
            registry_names: Vec::new(),
            concurrency: 16,
            builds: 2,
            resync: Duration::from_secs(300),
        }
    }
}

impl Settings {
    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// `Invalid`, saying which.
    pub fn check(&self) -> Result<()> {
        if self.base.as_str().len() > BASE_MAX || self.base.wildcard() {
            return Err(Error::invalid(BASE_WRONG));
        }
        if self.concurrency == 0 || self.builds == 0 || self.resync.is_zero() {
            return Err(Error::invalid(
                "concurrency, builds and resync must be more than 0",
            ));
        }
        Ok(())
    }

    /// The repository of an application's images.
    pub fn repository(&self, key: &ApplicationKey) -> Repository {
        let path = format!(
            "{}/{}/{}/{}",
            key.tenant, key.project, key.environment, key.name
        );
        let whole = self
            .registry
            .as_ref()
            .map_or_else(|| path.clone(), |registry| format!("{registry}/{path}"));
        whole.parse().expect("names make a repository")
    }
}

/// What every controller works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) backends: Backends,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) settings: Settings,
}

/// Runs all controllers for as long as it is polled.
pub(crate) async fn run(context: Arc<Context>) {
    context.client.sync().await;
    let settings = &context.settings;
    let controllers: [(Arc<dyn Reconcile>, usize); 5] = [
        (
            Arc::new(EnvironmentController {
                context: context.clone(),
                granting: Mutex::default(),
            }),
            settings.concurrency,
        ),
        (
            Arc::new(TenancyController {
                context: context.clone(),
            }),
            settings.concurrency,
        ),
        (
            Arc::new(ApplicationController {
                context: context.clone(),
            }),
            settings.concurrency,
        ),
        (
            Arc::new(BuildController {
                context: context.clone(),
            }),
            settings.builds,
        ),
        (
            Arc::new(GarbageController {
                context: context.clone(),
            }),
            1,
        ),
    ];
    let mut tasks = JoinSet::new();
    for (controller, concurrency) in controllers {
        let pace = Pace {
            concurrency,
            resync: settings.resync,
        };
        tasks.spawn(drive(controller, context.clock.clone(), pace));
    }
    tasks.spawn(garbage::sweep(context.clone(), settings.resync));
    while tasks.join_next().await.is_some() {}
}
