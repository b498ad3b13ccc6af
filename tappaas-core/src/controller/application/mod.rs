//! The application controller: releases, rollouts, routes, bindings, destruction.

mod command;
mod conditions;
mod entrusted;
mod execute;
mod fresh;
mod plan;
mod read;
mod report;
mod rolling;
mod routes;
mod snapshot;
mod step;
mod target;
mod template;
mod verdict;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};

pub use plan::{Plan, plan};
pub use routes::default_host;
pub use snapshot::{Caller, Hold, Snapshot, Unreached};
pub use step::Step;
pub use template::{RELEASE_PROCESS, processes};

use super::{Context, drive::Reconcile, wakes};
use crate::{
    Chain, Digest, Error, ErrorKind, Key, Kind, Result, Scope,
    model::{ApplicationKey, ApplicationSpec, OperationSpec, Release, ReleasePhase, ReleaseStatus},
};

/// When what is in the way, and may pass without anybody telling, is looked at again.
const RETRY: Duration = Duration::from_secs(5);

/// What the release that a spec asks for is made from. Counts are not in it.
pub fn origin(spec: &ApplicationSpec) -> Digest {
    let json = serde_json::to_vec(&(&spec.content, spec.attempt, spec.rollback));
    Digest::of(json.expect("an application's content has string keys only"))
}

/// Brings applications to what their specs say.
#[derive(Debug)]
pub(super) struct ApplicationController {
    pub(super) context: Arc<Context>,
}

#[async_trait]
impl Reconcile for ApplicationController {
    fn name(&self) -> &'static str {
        "application"
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>> {
        let object = key;
        let key = ApplicationKey::new(&key.scope, &key.name)?;
        let found = match self.context.snapshot(&key).await {
            Ok(found) => found,
            Err(error) => match self
                .context
                .tell_unreadable::<ApplicationSpec>(object)
                .await?
            {
                // Whoever mends it wakes us.
                true => return Ok(None),
                false => return Err(error),
            },
        };
        let Some(snapshot) = found else {
            self.context.check_gone(&key).await?;
            self.context.finish_operations(&key).await?;
            return Ok(None);
        };
        let plan = plan(&snapshot);
        if let Some(first) = plan.steps.first() {
            self.context.check_fresh(&snapshot, first).await?;
        }
        let (mut acted, mut next) = (false, plan.next);
        for step in plan.steps {
            tracing::debug!(application = %key, %step, "execute");
            let (inner, repeats) = (step.is_inner_route(), snapshot.repeats(&step));
            let compares = step.compares();
            let tried = snapshot.tried(&step);
            match self.context.execute(&snapshot, step).await {
                Ok(()) => acted |= !repeats,
                // A caller's way in is no reason to hold up what everybody else gets. No instance is stopped while
                // the route that is there leads to it.
                Err(error) if inner => {
                    tracing::warn!(application = %key, error = %Chain(&error), "a route from inside cannot be made");
                    next = Some(next.map_or(RETRY, |next| next.min(RETRY)));
                }
                // What is refused now is refused again: nobody would ever learn why the release does not come.
                Err(error) if snapshot.is_final(&error) && tried.is_some() => {
                    let judge = tried.and_then(|release| snapshot.refuse(release, &error));
                    match judge {
                        Some(judge) => self.context.execute(&snapshot, judge).await?,
                        None => return Err(error),
                    }
                    return Ok(Some(Duration::ZERO));
                }
                Err(error) => {
                    let behind = [ErrorKind::Conflict, ErrorKind::NotFound];
                    if compares && behind.contains(&error.kind()) {
                        self.context.check_same(&snapshot).await?;
                    }
                    return Err(error);
                }
            }
        }
        // What was done is news to plan from, though nobody else may tell of it.
        Ok(if acted { Some(Duration::ZERO) } else { next })
    }

    async fn wakes(&self) -> Result<BoxStream<'static, Key>> {
        let client = &self.context.client;
        let own = wakes::objects(client, Kind::Application, |_, _, key| vec![key.clone()]);
        let callee = wakes::objects(client, Kind::Application, wakes::bound_applications);
        let around = wakes::objects(client, Kind::Environment, wakes::applications_inside);
        let project = wakes::objects(client, Kind::Project, wakes::hostless_of_project);
        let pool = wakes::objects(client, Kind::DomainPool, wakes::hostless_of_all);
        let releases = wakes::objects(client, Kind::Release, wakes::named_application);
        let builds = wakes::objects(client, Kind::Build, wakes::named_application);
        let operations = wakes::objects(client, Kind::Operation, wakes::named_application);
        let workloads = self.context.backends.scheduler.watch().await?;
        let workloads = workloads.map(|id| id.application.object()).boxed();
        let outer = [around, project, pool];
        let inner = [own, callee, releases, builds, operations, workloads];
        Ok(stream::select_all(outer.into_iter().chain(inner)).boxed())
    }

    /// Also applications that are gone, but with operations that nobody has ended.
    fn all(&self) -> Vec<Key> {
        let client = &self.context.client;
        let operations = client.list::<OperationSpec>(&Scope::cluster());
        let open = operations
            .iter()
            .filter(|operation| !operation.status.state.ended());
        let named = open.map(|operation| {
            let (scope, name) = (operation.metadata.scope(), &operation.spec.application);
            Key::new(Kind::Application, scope, name.as_str())
        });
        let mut all: BTreeSet<Key> = named.collect();
        all.extend(client.keys(Kind::Application, &Scope::cluster()));
        all.into_iter().collect()
    }
}

/// The name of a release's object.
pub(crate) fn release_name(application: &str, version: u64) -> String {
    format!("{application}-{version}")
}

impl Snapshot {
    /// Plans as if the application's spec were another one, for `tappaas plan`.
    #[must_use]
    pub fn with_spec(mut self, spec: ApplicationSpec) -> Self {
        self.application.spec = spec;
        self
    }

    /// The release that has not ended and that a step brings instances of, or a volume for.
    fn tried(&self, step: &Step) -> Option<u64> {
        let latest = self.releases.last()?;
        let version = latest.spec.version;
        let brings = match step {
            Step::ApplyWorkload(workload) => {
                workload.releases.iter().any(|set| set.release == version)
            }
            Step::ApplyVolume(_) => true,
            _ => false,
        };
        (brings && !latest.status.phase.ended()).then_some(version)
    }

    /// Says whether what failed so fails until somebody changes something. Where limits are kept, those of the environment are meant.
    fn is_final(&self, error: &Error) -> bool {
        let limited = self.quotas && self.limits.storage.is_some();
        error.kind().refused() || (limited && error.kind() == ErrorKind::Exhausted)
    }

    /// Records that a release cannot run.
    fn refuse(&self, release: u64, error: &Error) -> Option<Step> {
        let release = self.release(release)?;
        Some(Step::Judge {
            release: release.spec.version,
            status: Box::new(ReleaseStatus {
                phase: ReleasePhase::Failed,
                message: Chain(error).to_string(),
                ended: Some(self.now),
                ..release.status.clone()
            }),
        })
    }

    /// Says whether a step does again what was done already, which is no news.
    fn repeats(&self, step: &Step) -> bool {
        match step {
            Step::ApplyRoute(route) => {
                let last = self.routes.get(&route.id);
                last.is_some_and(|last| last.route.generation == route.generation)
            }
            Step::ApplyWorkload(workload) => {
                let last = self.workloads.get(&workload.id);
                last.is_some_and(|last| last.generation == workload.generation)
            }
            _ => false,
        }
    }

    /// The releases in order of version.
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }
}
