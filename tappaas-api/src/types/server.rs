use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What this server is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// The program's version.
    pub version: String,
    /// The API's version, as its paths have it.
    pub api: String,
    /// Where the ingress takes HTTP requests, such as `127.0.0.1:8080`.
    pub ingress: Option<String>,
}

/// How to stop the server.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Stop {
    /// Also stop the instances of all applications; they start again with the server.
    pub apps: bool,
}
