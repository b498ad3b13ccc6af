use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Spec, Typed};
use crate::Kind;

/// A stage of a project.
pub type Environment = Typed<EnvironmentSpec>;

/// What a user wants of an environment.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvironmentSpec {}

impl Spec for EnvironmentSpec {
    const KIND: Kind = Kind::Environment;
    type Status = EnvironmentStatus;
}

/// What controllers found about an environment.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvironmentStatus {
    /// The namespace that it has where it runs, if there are such, as on Kubernetes.
    pub namespace: Option<String>,
    /// What is known, for programs that wait for it.
    pub conditions: Vec<Condition>,
}
