use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DynamicObject, ListParams};
use tappaas_core::{
    Chain, Error, Result, Timestamp,
    backend::{Route, RouteId, RouteStatus},
};

use super::{KubernetesIngress, mark};
use crate::{
    PlatformId,
    failure::{failure, is, is_about, within},
    store::chunks,
};

const SETTLES: &str = "proxies are given a moment to follow";
/// What was written so much longer ago than it takes to settle is served, even if the clocks of the API server and of this machine differ
/// by most of that.
const OLD: Duration = Duration::from_secs(60);
/// How often a listing begins anew because its snapshot was given up in the middle.
const ATTEMPTS: u32 = 3;

impl KubernetesIngress {
    pub(super) async fn status(&self, id: &RouteId) -> Result<Option<RouteStatus>> {
        let Some(object) = self.read(id).await? else {
            return Ok(None);
        };
        let route = mark::route(&self.platform, &object)?;
        let (pending, look_after) = if mark::switching(&object) {
            let said = "its services are being switched; if that was cut off, apply it again";
            (Some(said.to_owned()), None)
        } else if !mark::labelled(&self.platform, &object, &route)? {
            (Some("somebody else changed its labels".to_owned()), None)
        } else {
            let pending = self.pending(&object);
            pending.map_or((None, None), |(why, look_after)| (Some(why), look_after))
        };
        Ok(Some(RouteStatus {
            generation: match pending {
                Some(_) => 0,
                None => route.generation,
            },
            route,
            pending,
            look_after,
            draining: Vec::new(),
        }))
    }

    /// The object of a route.
    pub(super) async fn read(&self, id: &RouteId) -> Result<Option<DynamicObject>> {
        let place = self.place(id);
        match within(self.api(&place).get(&place.name)).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_about(&error, 404, &self.form.resource().plural) => Ok(None),
            Err(error) => Err(failure(format!("cannot read route {id}"), error)),
        }
    }

    pub(super) async fn ids(&self) -> Result<Vec<RouteId>> {
        let found = self.select(&mark::selector(&self.platform)).await?;
        let ours = found.into_iter().filter(|(of, _)| *of == self.platform);
        Ok(ours.map(|(_, route)| route.id).collect())
    }

    /// Refuses a route that comes in where another one does, also one of another platform.
    pub(super) async fn refuse_taken(&self, route: &Route) -> Result<()> {
        for (host, path) in mark::doors(route) {
            let found = self.select(&mark::door_selector(host, path)).await?;
            let has = |other: &Route| mark::doors(other).any(|door| door == (host, path));
            let is_this =
                |of: &PlatformId, other: &Route| *of == self.platform && other.id == route.id;
            let mut found = found.iter();
            if found.any(|(of, other)| !is_this(of, other) && has(other)) {
                // Not by whom: that may be another tenant.
                return Err(Error::already_exists(format!(
                    "{host}{path}/ is taken by another route"
                )));
            }
        }
        Ok(())
    }

    /// Why new requests may see something else than an object, and when that may have passed by itself; `None` if they do not.
    pub(super) fn pending(&self, object: &DynamicObject) -> Option<(String, Option<Duration>)> {
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        if let Some(unserved) = self.form.unserved(object) {
            let open = self.settling.open(uid);
            return Some((unserved.why, (open < unserved.patience).then_some(open)));
        }
        let generation = object.metadata.generation.unwrap_or_default();
        let age = written(object).map(|at| self.clock.now().duration_since(at));
        let age = age.and_then(|age| Duration::try_from(age).ok());
        let old = age.is_some_and(|age| age > OLD + self.settling.time());
        let left = self.settling.left(uid, generation, old)?;
        Some((SETTLES.to_owned(), Some(left)))
    }

    /// The routes whose objects have certain labels, and whose they are. Those that somebody spoilt are left out: they are one tenant's, and the others' go on.
    async fn select(&self, labels: &str) -> Result<Vec<(PlatformId, Route)>> {
        let api = self.api_everywhere();
        let request = ListParams::default().labels(labels);
        let mut attempt = 1;
        let found = loop {
            match chunks(&api, request.clone()).await {
                Err(error) if is(&error, 410) && attempt < ATTEMPTS => attempt += 1,
                done => break done.map_err(|error| failure("cannot list routes", error))?,
            }
        };
        let (objects, _) = found;
        let readable = |object: &DynamicObject| {
            let of = mark::platform(object)?;
            let route = mark::route(&of, object)
                .inspect_err(|error| tracing::warn!("left out: {}", Chain(error)))
                .ok()?;
            Some((of, route))
        };
        Ok(objects.iter().filter_map(readable).collect())
    }
}

/// When anything of an object was last written: also that it is accepted.
fn written(object: &DynamicObject) -> Option<Timestamp> {
    let managed = object.metadata.managed_fields.iter().flatten();
    managed
        .filter_map(|entry| entry.time.as_ref().map(|Time(at)| *at))
        .max()
}
