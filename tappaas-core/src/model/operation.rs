use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ApplicationSpec, Spec, Typed};
use crate::{Digest, Kind, Name, Timestamp};

/// The record of an asynchronous request. Its object is named by a unique id.
pub type Operation = Typed<OperationSpec>;

/// What was asked for.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationSpec {
    /// Of which application.
    pub application: Name,
    /// What.
    pub verb: OperationVerb,
    /// The application's generation that the request made.
    pub generation: u64,
    /// The origin of the release that the request wants; `None` if it wants none, as scaling does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Digest>,
    /// What the application's spec was before; `None` if the request created it, or wants no release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<ApplicationSpec>,
    /// Somebody asked for its end.
    #[serde(default)]
    pub cancelled: bool,
}

impl Spec for OperationSpec {
    const KIND: Kind = Kind::Operation;
    type Status = OperationStatus;
}

/// What an operation does.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationVerb {
    /// New source or manifest.
    Deploy,
    /// Changed configuration.
    Configure,
    /// The content of an older release.
    Rollback,
    /// The same content anew.
    Restart,
    /// Other counts.
    Scale,
    /// The end of the application.
    Destroy,
}

/// How an operation goes.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OperationStatus {
    /// How far it came.
    pub state: OperationState,
    /// What happens now, or how it ended.
    pub message: String,
    /// The release it made.
    pub release: Option<u64>,
    /// The build it waits for or used.
    pub build: Option<u64>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// How far an operation came.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    /// It goes on.
    #[default]
    Running,
    /// What was asked for is so.
    Succeeded,
    /// It was refused; the message says why.
    Failed,
    /// A newer one took its place.
    Superseded,
    /// It was cancelled.
    Cancelled,
}

impl OperationState {
    /// Says whether nothing more will become of it.
    pub fn ended(self) -> bool {
        self != Self::Running
    }
}
