use super::{Snapshot, release_name};
use crate::{
    Error, Key, Kind, Result,
    controller::Context,
    model::{ApplicationKey, Typed},
};

/// A cache may lag behind the store, and one kind's behind another's. What looks as if something were to be taken away is therefore
/// not planned from before the store itself says the same.
impl Context {
    /// Refuses to take an application for gone that is there.
    pub(super) async fn check_gone(&self, key: &ApplicationKey) -> Result<()> {
        match self.store.get(&key.object()).await? {
            Some(_) => Err(self.behind(&key.object())),
            None => Ok(()),
        }
    }

    /// Refuses a snapshot of an application that is another one by now, or that lacks the end of its history.
    pub(super) async fn check_fresh(&self, snapshot: &Snapshot) -> Result<()> {
        let application = &snapshot.application.metadata;
        if application.deletion.is_some() {
            let stored = self.store.get(&snapshot.key.object()).await?;
            let same = stored.is_some_and(|stored| stored.metadata.uid == application.uid);
            return match same {
                true => Ok(()),
                false => Err(self.behind(&snapshot.key.object())),
            };
        }
        match unknown(snapshot) {
            Some(version) => self.check_unknown(snapshot, version).await,
            None => Ok(()),
        }
    }

    /// Refuses to overlook a release that is there.
    async fn check_unknown(&self, snapshot: &Snapshot, version: u64) -> Result<()> {
        let name = release_name(snapshot.key.name.as_str(), version);
        let key = Key::new(Kind::Release, snapshot.key.scope(), name);
        let stored = self.store.get(&key).await?;
        let shown = self.client.raw(&key);
        let shown = shown.map(|shown| shown.metadata.revision);
        match stored.filter(|stored| Some(stored.metadata.revision) != shown) {
            // One that cannot be read is not waited for.
            Some(stored) if Typed::<crate::model::ReleaseSpec>::from_object(&stored).is_ok() => {
                Err(self.behind(&key))
            }
            _ => Ok(()),
        }
    }

    fn behind(&self, key: &Key) -> Error {
        self.client.doubt(key.kind);
        Error::conflict(format!("the cache is behind the store about {key}"))
    }
}

/// A release that runs, or that the application's status calls healthy, but that the snapshot does not know as that.
fn unknown(snapshot: &Snapshot) -> Option<u64> {
    let latest = snapshot.releases.last().map(|latest| latest.spec.version);
    let current = snapshot.current().map(|current| current.spec.version);
    let runs = snapshot
        .workloads
        .values()
        .flat_map(|workload| workload.counts.keys().copied());
    let newest = runs.chain(snapshot.application.status.latest).max();
    let healthy = snapshot.application.status.current;
    newest
        .filter(|newest| Some(*newest) > latest)
        .or_else(|| healthy.filter(|healthy| Some(*healthy) > current))
}
