//! The objects: what users want of applications (`spec`) and what controllers found (`status`).

mod application;
mod autoscale;
mod build;
pub(crate) mod check;
mod condition;
mod domains;
mod environment;
mod host;
mod operation;
mod process;
mod release;
mod runtime;
mod secret;
mod source;
mod tenancy;
mod volume;

pub use application::{
    Application, ApplicationKey, ApplicationSpec, ApplicationStatus, Binding,
    Content as ApplicationContent, Phase, ProcessStatus, Rollout, RouteSpec, VolumeMount,
};
pub use autoscale::Autoscale;
pub use build::{Build, BuildObjectSpec, BuildPhase, BuildStatus};
pub(crate) use condition::Verdict;
pub use condition::{Condition, ConditionKind, Truth};
pub use domains::{DomainPool, DomainPoolSpec, DomainPoolStatus};
pub use environment::{Environment, EnvironmentSpec, EnvironmentStatus, Limits};
pub use host::{Host, HostClaim, HostClaimSpec, HostClaimStatus};
pub use operation::{Operation, OperationSpec, OperationState, OperationStatus, OperationVerb};
pub use process::{
    Command, EnvValue, Port, Probe, ProbeCheck, Probes, Process, Protocol, Resources,
    RestartPolicy, Stop, User,
};
pub use release::{Release, ReleasePhase, ReleaseSpec, ReleaseStatus};
pub use runtime::Runtime;
pub use secret::SecretReference;
pub use source::{BuildSpec, Source, Strategy};
pub use tenancy::{AllotmentStatus, Project, ProjectSpec, Tenant, TenantSpec};
pub use volume::{VolumeObject, VolumeObjectSpec, VolumeObjectStatus};

use schemars::JsonSchema;
use serde::{Deserialize as _, Deserializer, Serialize, de::DeserializeOwned};

use crate::{Error, Key, Kind, Metadata, Object, Result, object::API_VERSION};

/// A kind of object as Rust types: implemented by its spec.
pub trait Spec:
    Clone
    + std::fmt::Debug
    + JsonSchema
    + PartialEq
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The kind's name.
    const KIND: Kind;

    /// What controllers find about it.
    type Status: Clone
        + Default
        + std::fmt::Debug
        + JsonSchema
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
        let metadata = object.metadata.clone();
        Self::read(object.kind, metadata, &object.spec, &object.status)
    }

    /// Reads the types out of an object's parts, whatever form these are in.
    pub(crate) fn read<'a, P>(kind: Kind, metadata: Metadata, spec: P, status: P) -> Result<Self>
    where
        P: Deserializer<'a, Error = serde_json::Error>,
    {
        let key = || Key::new(kind, metadata.scope(), metadata.name.clone());
        if kind != S::KIND {
            return Err(Error::internal(format!(
                "{} is not of kind {}",
                key(),
                S::KIND
            )));
        }
        let broken = |part, error: serde_json::Error| {
            Error::internal(format!("the {part} of {} cannot be read", key())).with_source(error)
        };
        let status = Option::<S::Status>::deserialize(status);
        let status = status.map_err(|error| broken("status", error))?;
        let spec = S::deserialize(spec).map_err(|error| broken("spec", error))?;
        Ok(Self {
            metadata,
            spec,
            status: status.unwrap_or_default(),
        })
    }

    /// The object as stores keep it.
    ///
    /// # Errors
    /// `Internal` if a value has no JSON form.
    pub fn to_object(&self) -> Result<Object> {
        let json =
            |error| Error::internal(format!("{} has no JSON form", self.key())).with_source(error);
        Ok(Object {
            api_version: API_VERSION.to_owned(),
            kind: S::KIND,
            metadata: self.metadata.clone(),
            spec: serde_json::to_value(&self.spec).map_err(json)?,
            status: serde_json::to_value(&self.status).map_err(json)?,
        })
    }
}
