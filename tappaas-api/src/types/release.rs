use serde::{Deserialize, Serialize};
use tappaas_core::{Timestamp, model};
use utoipa::{IntoParams, ToSchema};

/// Application version N.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// N, from 1.
    pub version: u64,
    /// How far it came.
    pub phase: ReleasePhase,
    /// Why it failed or was superseded.
    pub message: String,
    /// It is the last one that became healthy: what restarts and reboots run.
    pub current: bool,
    /// Its image.
    pub image: String,
    /// The release that it has the content of.
    pub rollback: Option<u64>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When its rollout began.
    pub started: Option<Timestamp>,
    /// When it became healthy, failed or was superseded.
    pub ended: Option<Timestamp>,
}

super::mirror! {
    /// How far a release came.
    ReleasePhase of model::ReleasePhase {
        /// Made; its release command runs, if it has one.
        Pending,
        /// Its instances are replacing the old ones.
        RollingOut,
        /// It became healthy.
        Healthy,
        /// It was judged failed, and is never tried again by itself.
        Failed,
        /// A newer one took its place before it became healthy.
        Superseded,
    }
}

/// One thing in which two releases differ.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// What differs, such as `processes.web.command`.
    pub path: String,
    /// Its value in the first release; none if it is not there, or masked.
    pub before: Option<String>,
    /// Its value in the second release; none if it is not there, or masked.
    pub after: Option<String>,
    /// What happened to it.
    pub change: Change,
    /// The values were left out, because they may be secret.
    pub masked: bool,
}

/// What happened to a part of a release.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The second release alone has it.
    Added,
    /// Both have it, with different values.
    Changed,
    /// The first release alone has it.
    Removed,
}

/// Whether values that may be secret are shown.
#[derive(Clone, Debug, Default, Deserialize, Eq, IntoParams, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RevealQuery {
    /// Show the values of environment variables.
    pub reveal: bool,
}

impl Release {
    pub(crate) fn new(release: &model::Release, current: Option<u64>) -> Self {
        let (spec, status) = (&release.spec, &release.status);
        Self {
            version: spec.version,
            phase: status.phase.into(),
            message: status.message.clone(),
            current: current == Some(spec.version),
            image: spec.image.to_string(),
            rollback: spec.rollback,
            created: release.metadata.created,
            started: status.started,
            ended: status.ended,
        }
    }
}
