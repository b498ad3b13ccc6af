use std::collections::BTreeMap;

use serde_json::{Value, json};
use tappaas_core::{Kind, Metadata, Object, Revision, Scope, object::API_VERSION};

use crate::Outcome;

/// What must be in a store: for each name what was answered last, and what was asked for since without an answer.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) objects: BTreeMap<String, Slot<Object>>,
    pub(crate) rows: BTreeMap<String, Slot<u64>>,
    /// Every answered change of an object: its revision, and the id that was written or `None` for a removal.
    pub(crate) answered: BTreeMap<Revision, Option<u64>>,
    ids: u64,
}

/// What may be found under a name.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    /// What was answered last, or found last.
    pub(crate) sure: Option<T>,
    /// Ids that were to be written since, `None` for a removal, whose fate nobody knows.
    pub(crate) unsure: Vec<Option<u64>>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            sure: None,
            unsure: Vec::new(),
        }
    }
}

impl Model {
    /// An id that was never written before.
    pub(crate) fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(crate) fn object(&mut self, name: &str) -> &mut Slot<Object> {
        self.objects.entry(name.to_owned()).or_default()
    }

    pub(crate) fn row(&mut self, name: &str) -> &mut Slot<u64> {
        self.rows.entry(name.to_owned()).or_default()
    }

    /// The last revision that was answered.
    pub(crate) fn revision(&self) -> Revision {
        self.answered
            .keys()
            .next_back()
            .copied()
            .unwrap_or_default()
    }
}

impl Slot<Object> {
    /// Holds what was found against what may be there, and takes it for sure from now on.
    pub(crate) fn settle(&mut self, name: &str, found: Option<Object>) -> Outcome {
        let id = found.as_ref().map(id_of);
        let expected = found == self.sure
            || (self.unsure.contains(&id) && found.as_ref().is_none_or(is_whole));
        if !expected {
            let (sure, unsure) = (&self.sure, &self.unsure);
            return Err(format!(
                "{name} is {found:?}; answered was {sure:?}, and without an answer {unsure:?}"
            )
            .into());
        }
        self.sure = found;
        self.unsure.clear();
        Ok(())
    }
}

impl Slot<u64> {
    /// As with objects.
    pub(crate) fn settle(&mut self, name: &str, found: Option<u64>) -> Outcome {
        if found != self.sure && !self.unsure.contains(&found) {
            let (sure, unsure) = (&self.sure, &self.unsure);
            return Err(format!(
                "row {name} is {found:?}; answered was {sure:?}, and without an answer {unsure:?}"
            )
            .into());
        }
        self.sure = found;
        self.unsure.clear();
        Ok(())
    }
}

/// An object that shows whether any part of it is missing.
pub(crate) fn object(name: &str, id: u64) -> Object {
    Object {
        api_version: API_VERSION.into(),
        kind: Kind::HostClaim,
        metadata: Metadata::new(&Scope::cluster(), name),
        spec: json!({ "id": id, "filler": filler(id) }),
        status: Value::Null,
    }
}

pub(crate) fn id_of(object: &Object) -> u64 {
    object.spec["id"].as_u64().unwrap_or_default()
}

fn is_whole(object: &Object) -> bool {
    object.spec["filler"] == filler(id_of(object))
}

/// Mostly small, sometimes larger than a page of the database.
fn filler(id: u64) -> String {
    let length = if id.is_multiple_of(7) {
        9000
    } else {
        20 + id % 400
    };
    format!("{id} ")
        .chars()
        .cycle()
        .take(usize::try_from(length).unwrap_or_default())
        .collect()
}
