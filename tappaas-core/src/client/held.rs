use serde_json::Value;

use crate::{
    Error, Kind, Metadata, Object, Result, Revision,
    model::{Spec, Typed},
    object::API_VERSION,
};

/// An object as a cache holds it: as text, which takes a tenth of the memory that the tree of its values does.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) kind: Kind,
    pub(crate) revision: Revision,
    pub(super) references: Box<[Reference]>,
    /// Metadata, spec and status, one after the other.
    text: Box<str>,
    /// Where spec and status begin.
    starts: [usize; 2],
}

/// How an object may name an application of its scope.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Reference {
    /// It belongs to it: `spec.application`.
    Of(String),
    /// It is bound to it: `spec.content.bindings.*.application`.
    BoundTo(String),
}

impl Held {
    pub(super) fn of(object: &Object) -> Self {
        let metadata =
            serde_json::to_string(&object.metadata).expect("metadata has string keys only");
        let spec = object.spec.to_string();
        let status = object.status.to_string();
        Self {
            kind: object.kind,
            revision: object.metadata.revision,
            references: references(object),
            starts: [metadata.len(), metadata.len() + spec.len()],
            text: [metadata, spec, status].concat().into(),
        }
    }

    /// The object as types.
    ///
    /// # Errors
    /// As [`Typed::from_object`].
    pub(crate) fn typed<S: Spec>(&self) -> Result<Typed<S>> {
        let [_, spec, status] = self.parts();
        let mut spec = serde_json::Deserializer::from_str(spec);
        let mut status = serde_json::Deserializer::from_str(status);
        Typed::read(self.kind, self.metadata()?, &mut spec, &mut status)
    }

    /// The object as values, of this version of the API.
    ///
    /// # Errors
    /// `Internal`; none that can be, for it was written as JSON.
    pub(super) fn object(&self) -> Result<Object> {
        let [_, spec, status] = self.parts();
        Ok(Object {
            api_version: API_VERSION.to_owned(),
            kind: self.kind,
            metadata: self.metadata()?,
            spec: decode(spec)?,
            status: decode(status)?,
        })
    }

    /// The application that it belongs to.
    pub(crate) fn application(&self) -> Option<&str> {
        self.references
            .iter()
            .find_map(|reference| match reference {
                Reference::Of(application) => Some(application.as_str()),
                Reference::BoundTo(_) => None,
            })
    }

    fn metadata(&self) -> Result<Metadata> {
        let [metadata, ..] = self.parts();
        decode(metadata)
    }

    fn parts(&self) -> [&str; 3] {
        let [spec, status] = self.starts;
        [
            &self.text[..spec],
            &self.text[spec..status],
            &self.text[status..],
        ]
    }
}

fn decode<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| Error::internal("cannot read what a cache holds").with_source(error))
}

fn references(object: &Object) -> Box<[Reference]> {
    let name = |value: &Value| value.get("application")?.as_str().map(str::to_owned);
    let bindings = object
        .spec
        .pointer("/content/bindings")
        .and_then(Value::as_object);
    let bound = bindings
        .into_iter()
        .flat_map(|bindings| bindings.values())
        .filter_map(name);
    name(&object.spec)
        .map(Reference::Of)
        .into_iter()
        .chain(bound.map(Reference::BoundTo))
        .collect()
}
