//! From some services to others, without a request that goes nowhere.

use std::time::Duration;

use tappaas_core::{
    ErrorKind, Result,
    backend::{Action, Route, RouteId},
};

use super::{
    KubernetesIngress,
    form::Form,
    mark,
    shares::{SERVICES_MAX, Service, shares},
};
use crate::PlatformId;

/// How long a Gateway may take to accept what leads to a change; then it is made all the same.
const ACCEPTED_MAX: Duration = Duration::from_secs(10);
/// How often it is asked.
const PERIOD: Duration = Duration::from_millis(100);

/// What a change of services needs.
#[derive(Debug)]
struct Turnover {
    last: Route,
    /// Services that only the new route has.
    coming: Vec<Service>,
    /// Services that only the last one has.
    going: Vec<Service>,
}

impl KubernetesIngress {
    /// Brings a route into effect. Each step is whole: whoever is cut off between two of them leaves a route that works.
    pub(super) async fn switch(&self, route: &Route) -> Result<()> {
        // What cannot be kept is refused before anything is done.
        self.form.object(&self.platform, route, &[], None)?;
        let Some(turnover) = self.turnover(route).await? else {
            return self.write(route, &[]).await;
        };
        if !turnover.coming.is_empty() {
            unless_overtaken(self.write(&turnover.last, &turnover.coming).await)?;
            self.settle(&route.id).await?;
        }
        if let Err(error) = self.write(route, &turnover.going).await {
            // The last route stays, as it was; if it cannot be reached either, whoever tries again cleans up.
            self.write(&turnover.last, &[]).await.ok();
            return Err(error);
        }
        if !turnover.going.is_empty() {
            self.settle(&route.id).await?;
            unless_overtaken(self.write(route, &[]).await)?;
        }
        Ok(())
    }

    /// `None` if the change needs no care, or none would help.
    async fn turnover(&self, route: &Route) -> Result<Option<Turnover>> {
        let Some(existing) = self.read(&route.id).await? else {
            return Ok(None);
        };
        let last = mark::route(&self.platform, &existing)?;
        let served = self.form.unserved(&existing).is_none();
        if !route.supersedes(&last)? || !served || matches!(self.form, Form::Ingress { .. }) {
            return Ok(None);
        }
        if last.frontend != route.frontend {
            self.refuse_taken(route).await?;
        }
        let (old, new) = (
            services(&self.platform, &last)?,
            services(&self.platform, route)?,
        );
        let only = |of: &[Service], not: &[Service]| {
            let only = of.iter().filter(|service| !not.contains(service));
            only.cloned().collect::<Vec<_>>()
        };
        let (coming, going) = (only(&new, &old), only(&old, &new));
        let known = !old.is_empty() && !new.is_empty();
        let fits = old.len() + coming.len() <= SERVICES_MAX;
        Ok((known && fits).then_some(Turnover {
            last,
            coming,
            going,
        }))
    }

    /// Waits until what was written is served, or nobody is to be waited for.
    async fn settle(&self, id: &RouteId) -> Result<()> {
        let settled = async {
            while let Some(object) = self.read(id).await? {
                if self.pending(&object).is_none() {
                    break;
                }
                tokio::time::sleep(PERIOD).await;
            }
            Ok(())
        };
        let limit = ACCEPTED_MAX + self.settling.time();
        tokio::time::timeout(limit, settled).await.unwrap_or(Ok(()))
    }
}

/// Those that a route names. Nobody else's requests depend on whether there are any.
fn services(platform: &PlatformId, route: &Route) -> Result<Vec<Service>> {
    let Action::Forward { targets, .. } = &route.action else {
        return Ok(Vec::new());
    };
    let shares = shares(platform, &route.id, targets)?;
    Ok(shares.into_iter().map(|(service, _)| service).collect())
}

/// What a newer generation has written over need not be written.
fn unless_overtaken(written: Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        written => written,
    }
}
