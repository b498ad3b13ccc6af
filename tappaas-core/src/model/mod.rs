//! The objects: what users want of applications (`spec`) and what controllers found (`status`).

mod application;
mod build;
mod environment;
mod host;
mod operation;
mod process;
mod release;
mod source;
mod volume;

pub use application::{
    Application, ApplicationKey, ApplicationSpec, ApplicationStatus, Binding,
    Content as ApplicationContent, Phase, ProcessStatus, Rollout, RouteSpec, VolumeMount,
};
pub use build::{Build, BuildObjectSpec, BuildPhase, BuildStatus};
pub use environment::{Environment, EnvironmentSpec, EnvironmentStatus};
pub use host::{Host, HostClaim, HostClaimSpec, HostClaimStatus};
pub use operation::{Operation, OperationSpec, OperationState, OperationStatus, OperationVerb};
pub use process::{
    Command, EnvValue, Port, Probe, ProbeCheck, Probes, Process, Protocol, Resources,
    RestartPolicy, Stop, User,
};
pub use release::{Release, ReleasePhase, ReleaseSpec, ReleaseStatus};
pub use source::{BuildSpec, Source, Strategy};
pub use volume::{VolumeObject, VolumeObjectSpec, VolumeObjectStatus};

use crate::{Key, Kind, Metadata, Object, Result, object::API_VERSION};
use serde::{Deserialize as _, Serialize, de::DeserializeOwned};

/// A kind of object as Rust types: implemented by its spec.
pub trait Spec:
    Clone + std::fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The kind's name.
    const KIND: Kind;

    /// What controllers find about it.
    type Status: Clone
        + Default
        + std::fmt::Debug
        + PartialEq
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static;
}

/// An object in Rust types.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed<S: Spec> {
    /// What every object has.
    pub metadata: Metadata,
    /// What users want.
    pub spec: S,
    /// What controllers found.
    pub status: S::Status,
}

impl<S: Spec> Typed<S> {
    /// A new object, not stored yet.
    pub fn new(metadata: Metadata, spec: S) -> Self {
        Self {
            metadata,
            spec,
            status: S::Status::default(),
        }
    }

    /// The object's identity.
    pub fn key(&self) -> Key {
        Key::new(S::KIND, self.metadata.scope(), self.metadata.name.clone())
    }

    /// Reads the types out of a stored object. A missing status is the default one.
    ///
    /// # Errors
    /// `Internal` if it is of another kind, or something in it is not what this version expects; the message names the field.
    pub fn from_object(object: &Object) -> Result<Self> {
        let key = object.key();
        let broken = |part, error: serde_json::Error| {
            crate::Error::internal(format!("the {part} of {key} cannot be read")).with_source(error)
        };
        if object.kind != S::KIND {
            return Err(crate::Error::internal(format!(
                "{key} is not of kind {}",
                S::KIND
            )));
        }
        let status = match &object.status {
            serde_json::Value::Null => S::Status::default(),
            status => S::Status::deserialize(status).map_err(|error| broken("status", error))?,
        };
        Ok(Self {
            metadata: object.metadata.clone(),
            spec: S::deserialize(&object.spec).map_err(|error| broken("spec", error))?,
            status,
        })
    }

    /// The object as stores keep it.
    ///
    /// # Errors
    /// `Internal` if a value has no JSON form.
    pub fn to_object(&self) -> Result<Object> {
        let json = |error| {
            crate::Error::internal(format!("{} has no JSON form", self.key())).with_source(error)
        };
        Ok(Object {
            api_version: API_VERSION.to_owned(),
            kind: S::KIND,
            metadata: self.metadata.clone(),
            spec: serde_json::to_value(&self.spec).map_err(json)?,
            status: serde_json::to_value(&self.status).map_err(json)?,
        })
    }
}
