use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};

use super::{Context, drive::Reconcile, wakes};
use crate::{
    Key, Kind, Result, Scope,
    client::Reference,
    model::{ApplicationKey, ApplicationSpec, OperationSpec},
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
            self.context.client.delete(&old).await?;
        }
        Ok(None)
    }

    async fn wakes(&self) -> Result<BoxStream<'static, Key>> {
        let client = &self.context.client;
        let kinds = [Kind::Release, Kind::Build, Kind::Operation];
        Ok(stream::select_all(
            kinds.map(|kind| wakes::objects(client, kind, wakes::named_application)),
        )
        .boxed())
    }

    fn all(&self) -> Vec<Key> {
        let client = &self.context.client;
        let everything = Scope::cluster();
        let applications = client.keys(Kind::Application, &everything);
        let named = [Kind::Release, Kind::Build, Kind::Operation]
            .into_iter()
            .flat_map(|kind| client.keys(kind, &everything));
        let named = named
            .flat_map(|key| wakes::named_application(client, client.raw(&key).as_deref(), &key));
        applications
            .into_iter()
            .chain(named)
            .collect::<BTreeSet<Key>>()
            .into_iter()
            .collect()
    }
}

impl GarbageController {
    /// Deletes what an application left behind that is gone. Asks the store itself: a cache may lag.
    async fn drop_orphans(&self, key: &ApplicationKey) -> Result<()> {
        let owner = self.context.store.get(&key.object()).await?;
        let uid = owner.map(|owner| owner.metadata.uid);
        let owned = self
            .context
            .releases(key)
            .into_iter()
            .map(|release| (release.key(), release.metadata.owners));
        let builds = self
            .context
            .builds(key)
            .into_iter()
            .map(|build| (build.key(), build.metadata.owners));
        for (object, owners) in owned.chain(builds) {
            let alive =
                owners.is_empty() || owners.iter().any(|owner| Some(&owner.uid) == uid.as_ref());
            if !alive {
                self.context.client.delete(&object).await?;
            }
        }
        Ok(())
    }

    /// What is older than the history to keep. Releases that run or may run again are kept in any case.
    fn history(&self, key: &ApplicationKey) -> Result<Vec<Key>> {
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
        let old_releases = older(releases.iter().map(|r| (r.spec.version, r.key())).collect())
            .into_iter()
            .filter(|(version, _)| !keep(*version));
        let builds = self.context.builds(key);
        let ended = builds.iter().filter(|build| build.status.phase.ended());
        let old_builds = older(
            ended
                .map(|build| (build.spec.number, build.key()))
                .collect(),
        );
        let operations =
            client.naming::<OperationSpec>(&key.scope(), Reference::Of(key.name.to_string()));
        let ended = operations
            .iter()
            .filter_map(|operation| Some((operation.status.ended?, operation.key())));
        let old_operations = older(ended.collect());
        let names = old_releases
            .map(|(_, key)| key)
            .chain(old_builds.into_iter().map(|(_, key)| key));
        Ok(names
            .chain(old_operations.into_iter().map(|(_, key)| key))
            .collect())
    }
}

fn older<K: Ord>(mut all: Vec<(K, Key)>) -> Vec<(K, Key)> {
    all.sort();
    let surplus = all.len().saturating_sub(HISTORY_MAX);
    all.truncate(surplus);
    all
}

/// Removes workloads and routes whose application is gone, for as long as it is polled.
pub(super) async fn sweep(context: Arc<Context>, period: Duration) {
    loop {
        context.clock.sleep(period).await;
        if let Err(error) = sweep_once(&context).await {
            tracing::warn!(?error, "cannot look for orphans");
        }
    }
}

async fn sweep_once(context: &Context) -> Result<()> {
    let mut gone = BTreeMap::new();
    for id in context.backends.scheduler.list().await? {
        if is_gone(context, &mut gone, &id.application).await? {
            tracing::info!(workload = %id, "remove an orphan");
            context.backends.scheduler.remove(&id).await?;
        }
    }
    for id in context.backends.ingress.list().await? {
        if is_gone(context, &mut gone, &id.application).await? {
            tracing::info!(route = %id, "remove an orphan");
            context.backends.ingress.remove(&id).await?;
        }
    }
    Ok(())
}

/// Asks the store itself, once an application: what a lagging cache does not know must not be destroyed.
async fn is_gone(
    context: &Context,
    known: &mut BTreeMap<ApplicationKey, bool>,
    key: &ApplicationKey,
) -> Result<bool> {
    if let Some(gone) = known.get(key) {
        return Ok(*gone);
    }
    let gone = context.store.get(&key.object()).await?.is_none();
    known.insert(key.clone(), gone);
    Ok(gone)
}
