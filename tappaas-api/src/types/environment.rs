use serde::{Deserialize, Serialize};
use tappaas_core::{Name, Timestamp};
use utoipa::ToSchema;

/// A stage of a project.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// How many applications are in it.
    pub applications: usize,
}
