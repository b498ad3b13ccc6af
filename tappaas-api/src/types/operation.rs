use serde::{Deserialize, Serialize};
use tappaas_core::{Name, Timestamp, model};
use utoipa::ToSchema;

use super::Problem;

/// The record of a request that takes its time.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Its id.
    pub id: String,
    /// Of which application.
    #[schema(value_type = String)]
    pub application: Name,
    /// What was asked for.
    pub verb: OperationVerb,
    /// The application's generation that the request made.
    pub generation: u64,
    /// How far it came.
    pub state: OperationState,
    /// What happens now, or how it ended.
    pub message: String,
    /// The release it made.
    pub release: Option<u64>,
    /// The build it waits for or used.
    pub build: Option<u64>,
    /// When it was asked for.
    pub created: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

super::mirror! {
    /// What an operation does.
    OperationVerb of model::OperationVerb {
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
}

super::mirror! {
    /// How far an operation came.
    OperationState of model::OperationState {
        /// It goes on.
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
}

impl OperationState {
    /// Says whether nothing more will become of it.
    pub fn ended(self) -> bool {
        self != Self::Running
    }
}

/// One line of a stream of progress (newline-delimited JSON).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum OperationEvent {
    /// How the operation is now; the stream ends once it has ended.
    Operation(Operation),
    /// The operation cannot be followed; the stream ends.
    Problem(Problem),
}

impl From<&model::Operation> for Operation {
    fn from(operation: &model::Operation) -> Self {
        let (metadata, spec, status) = (&operation.metadata, &operation.spec, &operation.status);
        Self {
            id: metadata.name.clone(),
            application: spec.application.clone(),
            verb: spec.verb.into(),
            generation: spec.generation,
            state: status.state.into(),
            message: status.message.clone(),
            release: status.release,
            build: status.build,
            created: metadata.created,
            ended: status.ended,
        }
    }
}
