use serde::{Deserialize, Serialize};
use tappaas_core::{Timestamp, model};
use utoipa::ToSchema;

use super::Source;

/// One run of a builder.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// Its number within the application, from 1.
    pub number: u64,
    /// How far it came.
    pub phase: BuildPhase,
    /// Why it failed.
    pub message: String,
    /// What it reads.
    pub source: Source,
    /// What was found in the source.
    pub detected: Option<String>,
    /// Nothing had to be built.
    pub cached: bool,
    /// The image it made.
    pub image: Option<String>,
    /// When it was asked for.
    pub created: Option<Timestamp>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

super::mirror! {
    /// How far a build came.
    BuildPhase of model::BuildPhase {
        /// It waits for its turn.
        Queued,
        /// It runs.
        Running,
        /// Its image is in the registry.
        Succeeded,
        /// It failed, and is not tried again by itself.
        Failed,
        /// It was ended because nobody wants it any more.
        Cancelled,
    }
}

impl From<&model::Build> for Build {
    fn from(build: &model::Build) -> Self {
        let (spec, status) = (&build.spec, &build.status);
        let outcome = status.outcome.as_ref();
        Self {
            number: spec.number,
            phase: status.phase.into(),
            message: status.message.clone(),
            source: (&spec.source).into(),
            detected: outcome.map(|outcome| outcome.detected.clone()),
            cached: outcome.is_some_and(|outcome| outcome.cached),
            image: outcome.map(|outcome| outcome.image.to_string()),
            created: build.metadata.created,
            started: status.started,
            ended: status.ended,
        }
    }
}
