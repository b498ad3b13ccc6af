use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{self as core, ServicePort, ServiceSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Error as KubeError,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use tappaas_core::{
    Error, Result,
    backend::{Action, Route, RouteId},
};

use super::{
    KubernetesIngress,
    mark::{self, MANAGER},
    shares::{Service, nobody, shares},
};
use crate::{
    PlatformId,
    failure::{failure, is, is_about, within},
};

/// How often a write reads again because somebody else was quicker.
const ATTEMPTS: u32 = 16;
/// How much longer it waits each time before it does.
const PAUSE: Duration = Duration::from_millis(10);

impl KubernetesIngress {
    /// Writes a route and services besides that get no requests, unless what is there is newer. If somebody else was quicker, that is
    /// decided again.
    pub(super) async fn write(&self, route: &Route, idle: &[Service]) -> Result<()> {
        let environment = route.id.application.scope();
        for attempt in 1..=ATTEMPTS {
            let existing = self.read(&route.id).await?;
            let last = existing
                .as_ref()
                .map(|object| last(&self.platform, route, object));
            if last
                .transpose()?
                .is_none_or(|last| last.frontend != route.frontend)
            {
                self.refuse_taken(route).await?;
            }
            if existing.is_none() {
                self.namespaces.provide(&environment).await?;
            }
            let version = existing.and_then(|object| object.metadata.resource_version);
            let object = self.form.object(&self.platform, route, idle, version)?;
            match self.send(route, &object).await {
                Ok(()) => return Ok(()),
                Err(error) if is(&error, 409) => {}
                // It has gone since it was seen.
                Err(error) if is_about(&error, 404, "namespaces") => {
                    self.namespaces.forget(&environment);
                }
                Err(error) => {
                    let doing = format!("cannot write route {}", route.id);
                    return Err(failure(doing, error));
                }
            }
            tokio::time::sleep(PAUSE * attempt).await;
        }
        Err(Error::unavailable(format!(
            "route {} was changed by others {ATTEMPTS} times while it was written",
            route.id
        )))
    }

    pub(super) async fn delete(&self, id: &RouteId) -> Result<()> {
        let place = self.place(id);
        let plural = self.form.resource().plural;
        let api = self.api(&place);
        match within(api.delete(&place.name, &DeleteParams::default())).await {
            Ok(_) => Ok(()),
            Err(error) if is_about(&error, 404, &plural) => Ok(()),
            Err(error) => Err(failure(format!("cannot remove route {id}"), error)),
        }
    }

    /// Writes the object, unless it is of another version by now.
    async fn send(&self, route: &Route, object: &DynamicObject) -> Result<(), KubeError> {
        let place = self.place(&route.id);
        let api = self.api(&place);
        if leads_nowhere(&self.platform, route) {
            self.provide_nobody(&place.namespace).await?;
        }
        if object.metadata.resource_version.is_some() {
            let parameters = PatchParams::apply(MANAGER).force();
            let patch = Patch::Apply(object);
            within(api.patch(&place.name, &parameters, &patch)).await?;
            return Ok(());
        }
        // Applying would write over what somebody else has made meanwhile.
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        within(api.create(&parameters, object)).await?;
        Ok(())
    }

    /// Sees to it that a namespace has the service without endpoints. It goes with the namespace.
    async fn provide_nobody(&self, namespace: &str) -> Result<(), KubeError> {
        let nobody = nobody();
        let service = core::Service {
            metadata: ObjectMeta {
                name: Some(nobody.name.clone()),
                namespace: Some(namespace.to_owned()),
                labels: Some(self.platform.marks().into()),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                cluster_ip: Some("None".to_owned()),
                ports: Some(vec![ServicePort {
                    port: nobody.port.into(),
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            ..core::Service::default()
        };
        let api: Api<core::Service> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PatchParams::apply(MANAGER).force();
        within(api.patch(&nobody.name, &parameters, &Patch::Apply(&service))).await?;
        Ok(())
    }
}

fn leads_nowhere(platform: &PlatformId, route: &Route) -> bool {
    match &route.action {
        Action::Forward { targets, .. } => {
            shares(platform, &route.id, targets).is_ok_and(|s| s.is_empty())
        }
        Action::Redirect { .. } => false,
    }
}

/// What an object was made of, if a route may take its place, or says the same: that is written again, since somebody may have changed it.
fn last(platform: &PlatformId, route: &Route, object: &DynamicObject) -> Result<Route> {
    if object.metadata.deletion_timestamp.is_some() {
        let message = format!("route {} is still being deleted", route.id);
        return Err(Error::unavailable(message));
    }
    let last = mark::route(platform, object)?;
    route.supersedes(&last)?;
    Ok(last)
}
