use super::{Snapshot, Step, release_name};
use crate::{
    Error, Key, Kind, Object, Result, Scope,
    backend::Frontend,
    controller::Context,
    model::{ApplicationKey, Host, ReleaseSpec, Typed},
};

/// A cache may lag behind the store, and one kind's behind another's: nothing is done before the store itself has been asked for what,
/// if it were unknown, would have something taken away.
impl Context {
    /// Refuses to take an application for gone that is there.
    pub(super) async fn check_gone(&self, key: &ApplicationKey) -> Result<()> {
        match self.store.get(&key.object()).await? {
            Some(stored) => Err(self.behind(&stored).await),
            None => Ok(()),
        }
    }

    /// Refuses a snapshot of an application that is another one by now, or that lacks the end of its history or one of its hosts.
    ///
    /// A plan whose first step writes the application by compare-and-swap refuses the former by itself.
    pub(super) async fn check_fresh(&self, snapshot: &Snapshot, first: &Step) -> Result<()> {
        if !first.compares() {
            self.check_same(snapshot).await?;
        }
        if snapshot.application.metadata.deletion.is_some() {
            return Ok(());
        }
        if let Some(version) = unknown(snapshot) {
            let name = release_name(snapshot.key.name.as_str(), version);
            let key = Key::new(Kind::Release, snapshot.key.scope(), name);
            let readable = |stored: &Object| Typed::<ReleaseSpec>::from_object(stored).is_ok();
            self.check_shown(&key, readable).await?;
        }
        for host in unclaimed(snapshot) {
            let key = Key::new(Kind::HostClaim, Scope::cluster(), host.claim());
            self.check_shown(&key, |_| true).await?;
        }
        Ok(())
    }

    /// Refuses a snapshot of an application that is another one by now.
    pub(super) async fn check_same(&self, snapshot: &Snapshot) -> Result<()> {
        let key = snapshot.key.object();
        let planned = snapshot.application.metadata.revision;
        match self.store.get(&key).await? {
            Some(stored) if stored.metadata.revision == planned => Ok(()),
            Some(stored) => Err(self.behind(&stored).await),
            None => {
                self.client.doubt(key.kind);
                Err(Error::conflict(format!("{key} is gone")))
            }
        }
    }

    /// Refuses to overlook an object that the store has otherwise than the cache, if it counts.
    async fn check_shown(&self, key: &Key, counts: impl Fn(&Object) -> bool + Send) -> Result<()> {
        let shown = self.client.held(key).map(|shown| shown.revision);
        let stored = self.store.get(key).await?;
        match stored.filter(|stored| Some(stored.metadata.revision) != shown) {
            Some(stored) if counts(&stored) => Err(self.behind(&stored).await),
            _ => Ok(()),
        }
    }

    /// Waits until the cache has caught up; what was planned from it is void.
    async fn behind(&self, stored: &Object) -> Error {
        match self.client.reach(stored, false).await {
            Ok(()) => Error::conflict(format!("{} was read too early", stored.key())),
            Err(error) => error,
        }
    }
}

/// A release that runs, or that the application's status calls healthy or its routes lead to, but that the snapshot does not know as that.
fn unknown(snapshot: &Snapshot) -> Option<u64> {
    let latest = snapshot.releases.last().map(|latest| latest.spec.version);
    let current = snapshot.current().map(|current| current.spec.version);
    let runs = snapshot
        .workloads
        .values()
        .flat_map(|workload| workload.counts.keys().copied());
    let newest = runs.chain(snapshot.application.status.latest).max();
    let healthy = snapshot.application.status.current;
    let routed = latest.filter(|_| current.is_none() && !snapshot.routes.is_empty());
    newest
        .filter(|newest| Some(*newest) > latest)
        .or_else(|| healthy.filter(|healthy| Some(*healthy) > current))
        .or(routed)
}

/// Hosts that lead here, though nobody is known to own them.
fn unclaimed(snapshot: &Snapshot) -> impl Iterator<Item = &Host> + Send {
    let frontends = snapshot
        .routes
        .values()
        .map(|status| &status.route.frontend);
    let hosts = frontends.flat_map(|frontend| match frontend {
        Frontend::Http { hosts, .. } => hosts.as_slice(),
        Frontend::Inner { .. } => &[],
    });
    hosts.filter(|host| !snapshot.claims.contains_key(*host))
}
