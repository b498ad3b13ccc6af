//! How an object says which route it is.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use sha2::{Digest as _, Sha256};
use tappaas_core::{
    Error, Result,
    backend::{Frontend, Route, RouteId},
};

pub(super) use crate::labels::{APPLICATION, MANAGER};
use crate::{
    PlatformId,
    labels::{MANAGED_BY, PLATFORM},
    store::place,
};

/// The whole route, as JSON.
const ROUTE: &str = "tappaas.dev/route";
/// That services are named besides which get no requests.
const SWITCHING: &str = "tappaas.dev/switching";
/// Before the hash of a host and path that the route has.
const DOOR: &str = "door.tappaas.dev/";
/// The most characters of a name, so that it can be a label's value.
const NAME_MAX: usize = 63;
/// Hexadecimal digits: who may choose names finds none that leads to another's route.
const HASH: usize = 20;
/// Hexadecimal digits: who may choose paths finds none that takes another's host.
const DOOR_HASH: usize = 40;

/// Where the object of a route is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Place {
    pub(super) fn of(platform: &PlatformId, id: &RouteId) -> Self {
        let hash = hash(&id.to_string());
        let mut readable = format!("{}-{}", id.application.name, id.name);
        readable.truncate(NAME_MAX - HASH - 1);
        Self {
            namespace: place::namespace(platform, &id.application.scope()),
            name: format!("{}-{}", readable.trim_end_matches('-'), &hash[..HASH]),
        }
    }

    pub(super) fn is_of(&self, object: &DynamicObject) -> bool {
        object.metadata.namespace.as_ref() == Some(&self.namespace)
            && object.metadata.name.as_ref() == Some(&self.name)
    }
}

/// What selects the objects of all routes of a platform.
pub(super) fn selector(platform: &PlatformId) -> String {
    format!("{},{APPLICATION}", platform.selector())
}

/// What selects the objects of the routes that have a host and path, whichever platform's they are: proxies serve all of them.
pub(super) fn door_selector(host: &str, path: &str) -> String {
    format!("{MANAGED_BY}={MANAGER},{}", door(host, path))
}

/// The hosts and paths that a route has. `/api` and `/api/` are the same.
pub(super) fn doors(route: &Route) -> impl Iterator<Item = (&str, &str)> {
    let (hosts, path) = match &route.frontend {
        Frontend::Http { hosts, path } => (hosts.as_slice(), path.trim_end_matches('/')),
        Frontend::Inner { .. } => (&[][..], ""),
    };
    hosts.iter().map(move |host| (host.as_str(), path))
}

/// The metadata of a route's object.
pub(super) fn metadata(
    platform: &PlatformId,
    route: &Route,
    switching: bool,
    resource_version: Option<String>,
) -> Result<ObjectMeta> {
    let place = Place::of(platform, &route.id);
    let application = &route.id.application;
    let mut labels: BTreeMap<_, _> = place::labels(platform, &application.scope()).collect();
    labels.insert(APPLICATION.to_owned(), application.name.to_string());
    labels.extend(platform.marks());
    labels.extend(doors(route).map(|(host, path)| (door(host, path), String::new())));
    let json = serde_json::to_string(route).map_err(|error| {
        Error::internal(format!("route {} cannot be written", route.id)).with_source(error)
    })?;
    let switching = switching.then(|| (SWITCHING.to_owned(), String::new()));
    let annotations = [(ROUTE.to_owned(), json)].into_iter().chain(switching);
    Ok(ObjectMeta {
        name: Some(place.name),
        namespace: Some(place.namespace),
        labels: Some(labels),
        annotations: Some(annotations.collect()),
        resource_version,
        ..ObjectMeta::default()
    })
}

/// The platform that an object says it is of.
pub(super) fn platform(object: &DynamicObject) -> Option<PlatformId> {
    let labels = object.metadata.labels.as_ref()?;
    labels.get(PLATFORM)?.parse().ok()
}

/// The route of a platform that an object was made of.
///
/// # Errors
/// `Internal`, naming the object, if it does not say, or says it of a route whose object is elsewhere.
pub(super) fn route(platform: &PlatformId, object: &DynamicObject) -> Result<Route> {
    let spoilt = |fault: &str| {
        let [namespace, name] = [&object.metadata.namespace, &object.metadata.name]
            .map(|part| part.as_deref().unwrap_or_default());
        Error::internal(format!(
            "the annotation {ROUTE} of {namespace}/{name} {fault}: delete the object, it is made again"
        ))
    };
    let annotations = object.metadata.annotations.as_ref();
    let json = annotations.and_then(|annotations| annotations.get(ROUTE));
    let json = json.ok_or_else(|| spoilt("is missing"))?;
    let route: Route =
        serde_json::from_str(json).map_err(|error| spoilt("is malformed").with_source(error))?;
    match Place::of(platform, &route.id).is_of(object) {
        true => Ok(route),
        false => Err(spoilt("tells of another route")),
    }
}

/// Whether an object has the labels that its route is found by.
pub(super) fn labelled(
    platform: &PlatformId,
    object: &DynamicObject,
    route: &Route,
) -> Result<bool> {
    let wanted = metadata(platform, route, false, None)?
        .labels
        .unwrap_or_default();
    let found = object.metadata.labels.as_ref();
    Ok(wanted
        .iter()
        .all(|(key, value)| found.and_then(|found| found.get(key)) == Some(value)))
}

/// Whether an object names services besides those of its route.
pub(super) fn switching(object: &DynamicObject) -> bool {
    let annotations = object.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(SWITCHING))
}

fn door(host: &str, path: &str) -> String {
    format!("{DOOR}{}", &hash(&format!("{host}{path}"))[..DOOR_HASH])
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use tappaas_core::ErrorKind;

    use super::*;
    use crate::ingress::testing::{object, route as sample};
    use crate::platform::sample as platform_id;

    #[test]
    fn names_fit_and_are_nobody_elses() {
        let long = "x".repeat(40);
        let place = Place::of(&platform_id(), &sample(&long, &long, "/").id);
        assert_eq!(place.name.len(), NAME_MAX);
        assert_ne!(
            place,
            Place::of(&platform_id(), &sample(&long, "short", "/").id)
        );
        let one = Place::of(&platform_id(), &sample("a-b", "c", "/").id);
        assert_ne!(one, Place::of(&platform_id(), &sample("a", "b-c", "/").id));
    }

    #[test]
    fn a_slash_at_the_end_makes_no_other_path() {
        let labels = |path| {
            metadata(&platform_id(), &sample("app", "main", path), false, None)
                .unwrap()
                .labels
        };
        assert_eq!(labels("/api"), labels("/api/"));
        assert_ne!(labels("/api"), labels("/apis"));
    }

    #[test]
    fn a_route_is_read_back_as_it_was_written() {
        let written = sample("app", "main", "/api");
        assert_eq!(route(&platform_id(), &object(&written)).unwrap(), written);
    }

    #[test]
    fn an_object_that_somebody_spoilt_is_named() {
        let mut gone = object(&sample("app", "main", "/"));
        gone.metadata.annotations = None;
        let mut copied = object(&sample("app", "main", "/"));
        copied.metadata.namespace = Some("elsewhere".to_owned());
        let mut broken = object(&sample("app", "main", "/"));
        let json = ("tappaas.dev/route".to_owned(), "{".to_owned());
        broken.metadata.annotations = Some(BTreeMap::from([json]));
        for (object, word) in [
            (gone, "is missing"),
            (copied, "another route"),
            (broken, "malformed"),
        ] {
            let error = route(&platform_id(), &object).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
            let message = error.message();
            assert!(
                message.contains(word) && message.contains("/app-main-"),
                "{message}"
            );
        }
    }
}
