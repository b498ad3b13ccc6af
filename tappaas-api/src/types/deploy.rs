use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tappaas_core::{Digest, Name, platform};
use utoipa::ToSchema;

/// What to deploy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deployment {
    /// Where the code comes from.
    pub source: SourceRequest,
    /// The text of `tappaas.toml`. Default: an empty one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manifest: String,
}

/// Where the code to deploy comes from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum SourceRequest {
    /// An archive that was uploaded for this application.
    Upload {
        /// Its digest.
        #[schema(value_type = String)]
        digest: Digest,
    },
    /// An image that is there already.
    Image {
        /// A reference such as `registry.example.com/app:1.2`.
        reference: String,
    },
}

/// What a request that takes its time came to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// The operation to wait for. Without one nothing changed.
    pub operation: Option<String>,
    /// The application's generation now.
    pub generation: u64,
    /// What is worth knowing, such as counts in the manifest that differ from those set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a deployment would do at first.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The steps, in order; later ones are planned when these are done.
    pub steps: Vec<Step>,
}

/// A step of a plan.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What it does.
    pub description: String,
}

/// How many instances of each process run; those not named stay as they are.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scale {
    /// Counts by process.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub processes: BTreeMap<Name, u32>,
}

/// Which release to go back to.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// Its version. Default: the healthy one before the current.
    pub release: Option<u64>,
}

impl From<platform::Accepted> for Accepted {
    fn from(accepted: platform::Accepted) -> Self {
        Self {
            operation: accepted.operation,
            generation: accepted.generation,
            notes: accepted.notes,
        }
    }
}
