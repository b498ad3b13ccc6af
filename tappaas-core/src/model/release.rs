use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ApplicationContent, Command, Host, Spec, Typed};
use crate::{Digest, Kind, Name, Timestamp, backend::Image};

/// Application version N. Its object is named `<application>-<N>`.
pub type Release = Typed<ReleaseSpec>;

/// What a release is. Immutable.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseSpec {
    /// The application's name.
    pub application: Name,
    /// N, from 1.
    pub version: u64,
    /// What it was made from: the digest of the application's content, attempt and rollback.
    pub origin: Digest,
    /// The image.
    pub image: Image,
    /// Everything else, as it was when the release was made.
    pub content: ApplicationContent,
    /// The processes that the build found, for those the content gives no command.
    #[serde(default)]
    pub detected: BTreeMap<Name, Command>,
    /// The host that it was given, where it leaves that to the platform. Other domains are for the releases that follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// The release that this one has the content of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<u64>,
}

impl Spec for ReleaseSpec {
    const KIND: Kind = Kind::Release;
    type Status = ReleaseStatus;
}

/// What became of a release.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseStatus {
    /// How far it came.
    pub phase: ReleasePhase,
    /// Why it failed or was superseded.
    pub message: String,
    /// When its rollout began.
    pub started: Option<Timestamp>,
    /// When it became healthy, failed or was superseded.
    pub ended: Option<Timestamp>,
    /// How the release command ended: `Some(true)` if well. Never run again once recorded.
    pub command: Option<bool>,
    /// Ports found by listening, by process, where the manifest declares none.
    pub ports: BTreeMap<Name, u16>,
}

/// How far a release came.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleasePhase {
    /// Made; its release command runs, if it has one.
    #[default]
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

impl ReleasePhase {
    /// Says whether nothing more will become of it.
    pub fn ended(self) -> bool {
        match self {
            Self::Pending | Self::RollingOut => false,
            Self::Healthy | Self::Failed | Self::Superseded => true,
        }
    }
}
