use serde::{Deserialize, Serialize};
use tappaas_core::{Name, Timestamp};
use utoipa::ToSchema;

/// Storage with its own life.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// The application that has or had it.
    #[schema(value_type = String)]
    pub application: Name,
    /// Its name within the application.
    #[schema(value_type = String)]
    pub name: Name,
    /// Its application exists and uses it.
    pub used: bool,
    /// Bytes that it may hold.
    pub size: Option<u64>,
    /// Bytes that it holds, if known.
    pub held: Option<u64>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// What is worth knowing, such as a size that is not enforced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
