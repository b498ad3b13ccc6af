//! Objects in Kubernetes' form and back.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::{
    api::{ApiResource, DynamicObject},
    core::TypeMeta,
};
use serde_json::{Map, Number, Value};
use tappaas_core::{
    Error, Key, Kind, Metadata, Object, Owner, Result, Revision, Timestamp, object::API_VERSION,
};

use super::place::{self, Place};
use crate::PlatformId;

/// What objects have and Kubernetes has no field for, as annotations.
const OWNERS: &str = "tappaas.dev/owners";
const VERSION: &str = "tappaas.dev/version";

/// The custom resource of a kind.
pub(super) fn resource(group: &str, kind: Kind) -> ApiResource {
    ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version: format!("{group}/v1"),
        kind: kind.as_str().to_owned(),
        plural: plural(kind),
    }
}

pub(crate) fn plural(kind: Kind) -> String {
    format!("{}s", kind.as_str().to_lowercase())
}

/// Refuses what Kubernetes would change.
///
/// # Errors
/// `Invalid`, naming what.
pub(super) fn check(object: &Object) -> Result<()> {
    let Metadata {
        labels,
        annotations,
        ..
    } = &object.metadata;
    let reserved = |name: &&String| {
        let name = name.as_str();
        [OWNERS, VERSION].contains(&name) || place::LABELS.contains(&name)
    };
    if let Some(name) = labels.keys().chain(annotations.keys()).find(reserved) {
        return Err(Error::invalid(format!(
            "{}: `{name}` is the store's own",
            object.key()
        )));
    }
    check_numbers(object, "spec", &object.spec)
}

/// Refuses numbers that Kubernetes would change in a field of an object.
///
/// # Errors
/// `Invalid`, naming the number.
pub(super) fn check_numbers(object: &Object, field: &str, value: &Value) -> Result<()> {
    let Some(number) = too_large(value) else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "the {field} of {} has {number} in it: Kubernetes keeps integers of 64 bits with a sign",
        object.key()
    )))
}

/// An integer that Go would read as a float, or a float that it would send back as one. Not recursive, for the value may be deeper
/// than the stack.
fn too_large(value: &Value) -> Option<&Number> {
    const BEYOND: std::ops::Range<f64> = 9_223_372_036_854_775_808.0..1e21;
    let beyond = |float: f64| BEYOND.contains(&float.abs());
    let mut waiting = vec![value];
    while let Some(value) = waiting.pop() {
        match value {
            Value::Number(number)
                if !number.is_i64() && (number.is_u64() || number.as_f64().is_some_and(beyond)) =>
            {
                return Some(number);
            }
            Value::Array(items) => waiting.extend(items),
            Value::Object(fields) => waiting.extend(fields.values()),
            _ => {}
        }
    }
    None
}

/// An object as it is sent to replace the one that has its uid and revision, which others own as well.
pub(super) fn next(
    resource: &ApiResource,
    platform: &PlatformId,
    key: &Key,
    place: &Place,
    object: Object,
    owners: Vec<OwnerReference>,
) -> DynamicObject {
    let (uid, revision) = (object.metadata.uid.clone(), object.metadata.revision);
    let mut sent = new(resource, platform, key, place, object);
    sent.metadata.uid = Some(uid);
    sent.metadata.resource_version = Some(String::from(revision));
    sent.metadata.owner_references = Some(owners).filter(|owners| !owners.is_empty());
    sent
}

/// An object as it is sent to be created.
pub(super) fn new(
    resource: &ApiResource,
    platform: &PlatformId,
    key: &Key,
    place: &Place,
    object: Object,
) -> DynamicObject {
    let Metadata {
        mut labels,
        mut annotations,
        owners,
        finalizers,
        ..
    } = object.metadata;
    if place.namespace.is_some() {
        labels.extend(place::labels(platform, &key.scope));
    }
    if !owners.is_empty() {
        let owners = serde_json::to_string(&owners).expect("owners have string keys only");
        annotations.insert(OWNERS.to_owned(), owners);
    }
    if object.api_version != API_VERSION {
        annotations.insert(VERSION.to_owned(), object.api_version);
    }
    let fields = [("spec", object.spec), ("status", object.status)];
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    let fields: Map<_, _> = fields
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    DynamicObject {
        types: Some(TypeMeta {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
        }),
        metadata: ObjectMeta {
            name: Some(place.name.clone()),
            namespace: place.namespace.clone(),
            labels: Some(labels).filter(|labels| !labels.is_empty()),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            finalizers: Some(finalizers).filter(|finalizers| !finalizers.is_empty()),
            ..ObjectMeta::default()
        },
        data: Value::Object(fields),
    }
}

/// An object as it was received.
///
/// # Errors
/// `Internal`, naming what, if it is none that this store or an API server makes.
pub(super) fn from_kubernetes(key: &Key, mut found: DynamicObject) -> Result<Object> {
    let wrong = |what: &str| Error::internal(format!("{key} {what}"));
    let metadata = found.metadata;
    let mut annotations = metadata.annotations.unwrap_or_default();
    let owners = owners(key, annotations.remove(OWNERS));
    let api_version = annotations.remove(VERSION);
    let names = Metadata::new(&key.scope, key.name.clone());
    let generation = metadata.generation.unwrap_or_default();
    Ok(Object {
        api_version: api_version.unwrap_or_else(|| API_VERSION.to_owned()),
        kind: key.kind,
        metadata: Metadata {
            uid: metadata.uid.ok_or_else(|| wrong("has no uid"))?,
            created: metadata.creation_timestamp.as_ref().map(time),
            generation: u64::try_from(generation)
                .map_err(|_| wrong("has a negative generation"))?,
            revision: revision(metadata.resource_version.as_deref())?,
            labels: own_labels(metadata.labels.unwrap_or_default()),
            annotations,
            owners,
            finalizers: metadata.finalizers.unwrap_or_default(),
            deletion: metadata.deletion_timestamp.as_ref().map(time),
            ..names
        },
        spec: found.data["spec"].take(),
        status: found.data["status"].take(),
    })
}

/// Whoever may change an object may spoil this. Then it has no owners, which harms nobody: it is kept.
fn owners(key: &Key, text: Option<String>) -> Vec<Owner> {
    let read = text.map(|text| serde_json::from_str(&text)).transpose();
    read.unwrap_or_else(|error| {
        tracing::warn!(object = %key, %error, "an annotation of owners that cannot be read is taken for none");
        None
    })
    .unwrap_or_default()
}

/// Without those that say where an object is.
fn own_labels(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for label in place::LABELS {
        labels.remove(label);
    }
    labels
}

/// A `resourceVersion` as a revision: since Kubernetes 1.35 it is documented that they are numbers that rise.
///
/// # Errors
/// `Internal` if it is none.
pub(super) fn revision(text: Option<&str>) -> Result<Revision> {
    let text = text.unwrap_or_default();
    Revision::try_from(text.to_owned()).map_err(|error| {
        Error::internal("the Kubernetes API sent a resourceVersion that is no number")
            .with_source(error)
    })
}

fn time(time: &Time) -> Timestamp {
    time.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_that_kubernetes_would_round_is_found() {
        for value in [
            json!(null),
            json!([1, -1, 0.5, 1e300]),
            json!({ "a": i64::MIN }),
        ] {
            assert_eq!(too_large(&value), None);
        }
        for large in [json!(u64::MAX), json!(1e19)] {
            assert!(too_large(&json!({ "a": [0, large] })).is_some());
        }
    }
}
