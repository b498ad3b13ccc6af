use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Spec, Typed};
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
pub struct EnvironmentStatus {}
