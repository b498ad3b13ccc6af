use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BuildSpec, Source, Spec, Typed};
use crate::{
    Kind, Name, Timestamp,
    backend::{BuildOutcome, Repository},
};

/// One run of a builder. Its object is named `<application>-<N>`.
pub type Build = Typed<BuildObjectSpec>;

/// What to build. Immutable.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildObjectSpec {
    /// The application's name.
    pub application: Name,
    /// N, from 1.
    pub number: u64,
    /// Where to read from.
    pub source: Source,
    /// How to build.
    pub build: BuildSpec,
    /// Where the image goes.
    pub repository: Repository,
    /// Nobody wants it any more.
    #[serde(default)]
    pub cancelled: bool,
}

impl Spec for BuildObjectSpec {
    const KIND: Kind = Kind::Build;
    type Status = BuildStatus;
}

/// What became of a build.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildStatus {
    /// How far it came.
    pub phase: BuildPhase,
    /// Why it failed.
    pub message: String,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What it came to.
    pub outcome: Option<BuildOutcome>,
}

/// How far a build came.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuildPhase {
    /// It waits for its turn.
    #[default]
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

impl BuildPhase {
    /// Says whether nothing more will become of it.
    pub fn ended(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}
