//! What was applied last, as annotations of the object that makes the pods.

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tappaas_core::{Digest, Name, backend::Workload, model::Autoscale};

use super::{autoscaling, controllers::Form};
use crate::quantity::quantity;

const GENERATION: &str = "tappaas.dev/generation";
const CONTENT: &str = "tappaas.dev/content";
const BOUNDS: &str = "tappaas.dev/autoscale";
const COUNTS: &str = "tappaas.dev/counts";
const PARTS: &str = "tappaas.dev/parts";
const PORTS: &str = "tappaas.dev/ports";
/// The spec as it was applied, which tells what somebody else changed since.
const APPLIED: &str = "tappaas.dev/applied";

/// What was applied last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) form: Form,
    pub(super) generation: u64,
    pub(super) content: Digest,
    pub(super) counts: BTreeMap<u64, u32>,
    pub(super) bounds: Option<Autoscale>,
    /// The names of the ports that are reached through the service.
    pub(super) ports: Vec<Name>,
    pub(super) applied: Option<Value>,
    pub(super) parts: Parts,
}

/// The specs of what else was applied, to tell what somebody else changed of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Parts {
    pub(super) policy: Option<Value>,
    pub(super) service: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scaler: Option<Value>,
}

impl Record {
    pub(super) fn new(
        form: Form,
        workload: &Workload,
        applied: Option<Value>,
        parts: Parts,
    ) -> Self {
        let releases = workload.releases.iter();
        let ports = releases.clone().flat_map(|set| &set.template.ports);
        Self {
            form,
            generation: workload.generation,
            content: workload.content(),
            counts: releases.map(|set| (set.release, set.count)).collect(),
            bounds: workload.autoscale,
            ports: ports.map(|port| port.name.clone()).collect(),
            applied,
            parts,
        }
    }

    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::from([
            (GENERATION.to_owned(), self.generation.to_string()),
            (CONTENT.to_owned(), self.content.to_string()),
            // Also that there are none: an annotation that is left out of a merge stays.
            (BOUNDS.to_owned(), json(&self.bounds)),
            (COUNTS.to_owned(), json(&self.counts)),
            (PARTS.to_owned(), json(&self.parts)),
            (PORTS.to_owned(), json(&self.ports)),
        ]);
        if let Some(applied) = &self.applied {
            annotations.insert(APPLIED.to_owned(), json(applied));
        }
        annotations
    }

    /// Reads what is written on an object. What nothing or nonsense is written on, since somebody spoilt it or it was only just begun, was
    /// never applied: whatever comes next is taken.
    pub(super) fn of(form: Form, object: &DynamicObject) -> Self {
        let annotations = object.metadata.annotations.as_ref();
        let text = |name: &str| {
            annotations
                .and_then(|all| all.get(name))
                .map(String::as_str)
        };
        let whole = || {
            Some(Self {
                form,
                generation: read(text(GENERATION))?,
                content: text(CONTENT)?.parse().ok()?,
                counts: read(text(COUNTS))?,
                bounds: read(text(BOUNDS)).flatten(),
                ports: read(text(PORTS))?,
                applied: read(text(APPLIED)),
                parts: read(text(PARTS))?,
            })
        };
        whole().unwrap_or_else(|| Self {
            form,
            generation: 0,
            content: Digest::of(""),
            counts: BTreeMap::new(),
            bounds: None,
            ports: Vec::new(),
            applied: None,
            parts: Parts::default(),
        })
    }

    /// The secret with the environment of the instances.
    pub(super) fn environment(&self) -> Option<&str> {
        let secret = "/template/spec/containers/0/envFrom/0/secretRef/name";
        self.applied.as_ref()?.pointer(secret)?.as_str()
    }

    /// What somebody else changed of an object since it was applied.
    pub(super) fn drift(&self, object: &DynamicObject) -> Option<String> {
        let kind = self.form.resource().kind;
        let name = object.metadata.name.as_deref().unwrap_or_default();
        if self.generation == 0 {
            return Some(format!("{kind} {name} does not tell what was applied"));
        }
        // An autoscaler leaves alone what has no instance.
        if self.bounds.is_some() && autoscaling::replicas(object) == 0 {
            return Some(format!(
                "spec.replicas of {kind} {name} is 0, which turns its autoscaler off"
            ));
        }
        let applied = self.applied.as_ref()?;
        let changed = difference("spec", applied, &object.data["spec"])?;
        Some(format!(
            "{changed} of {kind} {name} is not what was applied"
        ))
    }
}

/// The first field of `applied` that is another one in `found`. What the cluster or somebody else added is no difference, neither a
/// field nor an item of a list whose items have names; nor is another way to write the same quantity.
pub(crate) fn difference(path: &str, applied: &Value, found: &Value) -> Option<String> {
    match (applied, found) {
        (Value::Object(applied), Value::Object(found)) => {
            applied.iter().find_map(|(name, value)| {
                let path = format!("{path}.{name}");
                difference(&path, value, found.get(name).unwrap_or(&Value::Null))
            })
        }
        (Value::Array(applied), Value::Array(found)) => items(path, applied, found),
        // Kubernetes leaves out what says nothing.
        (applied, Value::Null) if is_empty(applied) => None,
        (applied, found) if applied == found => None,
        (Value::String(applied), Value::String(found)) if same_quantity(applied, found) => None,
        _ => Some(path.to_owned()),
    }
}

/// What tells the items of a list apart, as in Kubernetes' own merging.
const KEYS: [&str; 5] = ["name", "mountPath", "containerPort", "topologyKey", "port"];

fn items(path: &str, applied: &[Value], found: &[Value]) -> Option<String> {
    let mut keys = KEYS.into_iter();
    let key = keys.find(|key| !applied.is_empty() && are_told_apart(applied, key));
    let Some(key) = key else {
        if applied.len() != found.len() {
            return Some(path.to_owned());
        }
        let mut pairs = applied.iter().zip(found).enumerate();
        return pairs.find_map(|(index, (applied, found))| {
            difference(&format!("{path}[{index}]"), applied, found)
        });
    };
    applied.iter().enumerate().find_map(|(index, item)| {
        let same = found.iter().find(|found| found[key] == item[key]);
        difference(
            &format!("{path}[{index}]"),
            item,
            same.unwrap_or(&Value::Null),
        )
    })
}

fn are_told_apart(items: &[Value], key: &str) -> bool {
    let mut keys = items.iter().map(|item| &item[key]).enumerate();
    keys.all(|(index, value)| {
        let scalar = value.is_string() || value.is_number();
        scalar && items[..index].iter().all(|earlier| earlier[key] != *value)
    })
}

fn same_quantity(a: &str, b: &str) -> bool {
    let (a, b) = (quantity(a), quantity(b));
    a > 0.0 && (a - b).abs() <= f64::EPSILON * a
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a record has string keys only")
}

fn read<T: DeserializeOwned>(text: Option<&str>) -> Option<T> {
    serde_json::from_str(text?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_cluster_adds_is_no_difference_and_what_it_lacks_is_one() {
        let applied = json!({ "replicas": 2, "list": [{ "name": "a", "none": [] }], "off": false });
        let whole = json!({ "replicas": 2, "list": [{ "name": "other" }, { "name": "a", "more": 1 }], "extra": {} });
        assert_eq!(difference("spec", &applied, &whole), None);
        for (found, path) in [
            (
                json!({ "replicas": 3, "list": [{ "name": "a" }] }),
                "spec.replicas",
            ),
            (
                json!({ "replicas": 2, "list": [{ "name": "b" }] }),
                "spec.list[0]",
            ),
            (json!({ "replicas": 2, "list": [] }), "spec.list[0]"),
            (json!({ "list": [{ "name": "a" }] }), "spec.replicas"),
        ] {
            assert_eq!(difference("spec", &applied, &found).as_deref(), Some(path));
        }
    }

    #[test]
    fn items_that_are_not_told_apart_are_compared_in_their_order() {
        let both = json!([{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }]);
        assert_eq!(difference("ports", &both, &both), None);
        let found = json!([{ "port": 53, "protocol": "TCP" }]);
        assert_eq!(difference("ports", &both, &found).as_deref(), Some("ports"));
    }

    #[test]
    fn the_same_quantity_may_be_written_in_another_way() {
        for (ours, theirs) in [
            ("1000m", "1"),
            ("500000000", "500M"),
            ("131072000", "131072k"),
        ] {
            assert_eq!(difference("a", &json!(ours), &json!(theirs)), None);
        }
        for (ours, theirs) in [("1000m", "2"), ("a", "b"), ("", "x")] {
            assert!(difference("a", &json!(ours), &json!(theirs)).is_some());
        }
    }
}
