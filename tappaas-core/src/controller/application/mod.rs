//! The application controller: releases, rollouts, routes, bindings, destruction.

mod command;
mod conditions;
mod entrusted;
mod execute;
mod fresh;
mod perform;
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
    Digest, Key, Kind, Result, Scope,
    model::{ApplicationKey, ApplicationSpec, OperationSpec, Release},
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
        let Plan { mut steps, next } = plan(&snapshot);
        if let Some(first) = steps.first() {
            self.context.check_fresh(&snapshot, first).await?;
        }
        let last_word = steps.pop_if(|step| matches!(step, Step::SetStatus(_)));
        let mut done = self.context.perform(&snapshot, steps).await;
        // How the application is after something was done, the next plan says. After a failure that may come to nothing again.
        let void = done.acted && done.outcome.is_ok();
        if let Some(status) = last_word.filter(|_| !void) {
            let told = self.context.perform(&snapshot, vec![status]).await;
            done.outcome = done.outcome.and(told.outcome);
            done.acted = true;
        }
        done.outcome?;
        Ok(match (done.acted, done.next) {
            // What was done is news to plan from, though nobody else may tell of it.
            (true, _) => Some(Duration::ZERO),
            (false, None) => next,
            (false, Some(retry)) => Some(next.map_or(retry, |next| next.min(retry))),
        })
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

    /// The releases in order of version.
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }
}
