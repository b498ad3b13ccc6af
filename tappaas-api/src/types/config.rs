use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tappaas_core::model::EnvValue;
use utoipa::ToSchema;

/// An environment variable of an application.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value, if it was asked to be revealed.
    #[schema(value_type = Option<String>)]
    pub value: Option<EnvValue>,
    /// What set it.
    pub layer: Layer,
}

/// What set an environment variable. The later layer wins.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The manifest.
    Manifest,
    /// The manifest's `[environments.X]`.
    Environment,
    /// `config set`.
    Config,
}

/// A change of the environment variables that `config set` keeps.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ConfigChange {
    /// New and changed values, by name.
    #[schema(value_type = BTreeMap<String, String>)]
    pub set: BTreeMap<String, EnvValue>,
    /// The names of those to take away.
    pub unset: Vec<String>,
}
