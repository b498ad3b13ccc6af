use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};

use super::{Context, drive::Reconcile, wakes};
use crate::{
    ErrorKind, Key, Kind, Owner, Precondition, Result, Revision, Scope,
    client::Reference,
    model::{ApplicationKey, ApplicationSpec, HostClaimSpec, OperationSpec, Spec, Typed},
};

/// Releases, builds and ended operations kept for each application.
const HISTORY_MAX: usize = 20;

/// Removes what nothing refers to any more: old history, objects whose owner is gone, workloads and routes of applications that are gone.
#[derive(Debug)]
pub(super) struct GarbageController {
    pub(super) context: Arc<Context>,
}

#[async_trait]
impl Reconcile for GarbageController {
    fn name(&self) -> &'static str {
        "garbage"
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>> {
        let application = ApplicationKey::new(&key.scope, &key.name)?;
        self.drop_orphans(&application).await?;
        for old in self.history(&application)? {
            self.delete(old).await?;
        }
        Ok(None)
    }

    async fn wakes(&self) -> Result<BoxStream<'static, Key>> {
        let client = &self.context.client;
        let kinds = [Kind::Release, Kind::Build, Kind::Operation];
        let named = kinds.map(|kind| wakes::objects(client, kind, wakes::named_application));
        let own = wakes::objects(client, Kind::Application, wakes::itself);
        Ok(stream::select_all(named.into_iter().chain([own])).boxed())
    }

    fn all(&self) -> Vec<Key> {
        let client = &self.context.client;
        let everything = Scope::cluster();
        let applications = client.keys(Kind::Application, &everything);
        let named = [Kind::Release, Kind::Build, Kind::Operation]
            .into_iter()
            .flat_map(|kind| client.keys(kind, &everything));
        let named = named
            .flat_map(|key| wakes::named_application(client, client.held(&key).as_deref(), &key));
        applications
            .into_iter()
            .chain(named)
            .collect::<BTreeSet<Key>>()
            .into_iter()
            .collect()
    }
}

impl GarbageController {
    /// Deletes what an application left behind that is gone. The store is asked after the listing, so that nothing made since is meant;
    /// not at all if it is known to be there, for its end is told, too.
    async fn drop_orphans(&self, key: &ApplicationKey) -> Result<()> {
        let releases = self.context.releases(key).into_iter();
        let builds = self.context.builds(key).into_iter();
        let listed: Vec<(Old, Vec<Owner>)> = releases
            .map(|release| (Old::of(&release), release.metadata.owners))
            .chain(builds.map(|build| (Old::of(&build), build.metadata.owners)))
            .collect();
        let client = &self.context.client;
        let known = client.get::<ApplicationSpec>(&key.scope(), key.name.as_str());
        let known = known.ok().flatten().map(|known| known.metadata.uid);
        if listed
            .iter()
            .all(|(_, owners)| is_owned(owners, known.as_deref()))
        {
            return Ok(());
        }
        let owner = self.context.store.get(&key.object()).await?;
        let uid = owner.map(|owner| owner.metadata.uid);
        for (object, owners) in listed {
            if !is_owned(&owners, uid.as_deref()) {
                self.delete(object).await?;
            }
        }
        Ok(())
    }

    /// Deletes an object as it was listed. What is there under its name by now is something else, or news.
    async fn delete(&self, old: Old) -> Result<()> {
        let unchanged = Precondition::Revision(old.revision);
        match self.context.store.delete(&old.key, unchanged).await {
            Err(error) if !matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// What is older than the history to keep. Releases that run or may run again are kept in any case.
    fn history(&self, key: &ApplicationKey) -> Result<Vec<Old>> {
        let client = &self.context.client;
        let application = client.get::<ApplicationSpec>(&key.scope(), key.name.as_str())?;
        let releases = self.context.releases(key);
        let current = releases
            .iter()
            .rev()
            .find(|r| r.status.phase == crate::model::ReleasePhase::Healthy);
        let current = current.map(|release| release.spec.version);
        let wanted = application.and_then(|application| application.spec.rollback);
        let keep = |version| Some(version) == current || Some(version) == wanted;
        let old_releases = older(
            releases
                .iter()
                .map(|r| (r.spec.version, Old::of(r)))
                .collect(),
        )
        .into_iter()
        .filter(|(version, _)| !keep(*version));
        let builds = self.context.builds(key);
        let ended = builds.iter().filter(|build| build.status.phase.ended());
        let old_builds = older(
            ended
                .map(|build| (build.spec.number, Old::of(build)))
                .collect(),
        );
        let operations =
            client.naming::<OperationSpec>(&key.scope(), &Reference::Of(key.name.to_string()));
        let ended = operations
            .iter()
            .filter_map(|operation| Some((operation.status.ended?, Old::of(operation))));
        let old_operations = older(ended.collect());
        let names = old_releases
            .map(|(_, old)| old)
            .chain(old_builds.into_iter().map(|(_, old)| old));
        Ok(names
            .chain(old_operations.into_iter().map(|(_, old)| old))
            .collect())
    }
}

/// Nobody owns it, or an application does that has this uid.
fn is_owned(owners: &[Owner], uid: Option<&str>) -> bool {
    owners.is_empty() || owners.iter().any(|owner| Some(owner.uid.as_str()) == uid)
}

/// An object as it was listed.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Old {
    key: Key,
    revision: Revision,
}

impl Old {
    fn of<S: Spec>(object: &Typed<S>) -> Self {
        Self {
            key: object.key(),
            revision: object.metadata.revision,
        }
    }
}

fn older<K: Ord>(mut all: Vec<(K, Old)>) -> Vec<(K, Old)> {
    all.sort();
    let surplus = all.len().saturating_sub(HISTORY_MAX);
    all.truncate(surplus);
    all
}

/// Removes workloads, routes and host claims whose application is gone, for as long as it is polled.
pub(super) async fn sweep(context: Arc<Context>, period: Duration) {
    loop {
        context.clock.sleep(period).await;
        if let Err(error) = sweep_once(&context).await {
            tracing::warn!(?error, "cannot look for orphans");
        }
    }
}

/// What cannot be removed keeps nothing else from being removed.
async fn sweep_once(context: &Context) -> Result<()> {
    let workloads = context.backends.scheduler.list().await?;
    let routes = context.backends.ingress.list().await?;
    for id in workloads {
        let removed = async {
            if is_gone(context, &id.application).await? {
                tracing::info!(workload = %id, "remove an orphan");
                context.backends.scheduler.remove(&id).await?;
            }
            Ok(())
        };
        report(removed.await);
    }
    for id in routes {
        let removed = async {
            if is_gone(context, &id.application).await? {
                tracing::info!(route = %id, "remove an orphan");
                context.backends.ingress.remove(&id).await?;
            }
            Ok(())
        };
        report(removed.await);
    }
    for claim in context.client.list::<HostClaimSpec>(&Scope::cluster()) {
        let removed = async {
            if is_gone(context, &claim.spec.application).await? {
                tracing::info!(host = %claim.spec.host, "give back a host");
                context.client.delete_unchanged(&claim).await?;
            }
            Ok(())
        };
        report(removed.await);
    }
    Ok(())
}

fn report(removed: Result<()>) {
    if let Err(error) = removed {
        tracing::warn!(?error, "cannot remove an orphan");
    }
}

/// Asks the store itself, each time: what a lagging cache does not know, or what was made anew since, must not be destroyed.
async fn is_gone(context: &Context, key: &ApplicationKey) -> Result<bool> {
    // Most are there, and a cache is not ahead of its store.
    let known = context.client.held(&key.object()).is_some();
    Ok(!known && context.store.get(&key.object()).await?.is_none())
}
