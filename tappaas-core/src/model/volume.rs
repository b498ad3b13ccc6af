use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Spec, Typed};
use crate::{Kind, Name};

/// Storage with its own life. Its object is named `<application>-<volume>-<hash>`, shortened where that is too long.
pub type VolumeObject = Typed<VolumeObjectSpec>;

/// What a user wants of a volume. It outlives its application.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeObjectSpec {
    /// The application's name.
    pub application: Name,
    /// The volume's name within it.
    pub volume: Name,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl Spec for VolumeObjectSpec {
    const KIND: Kind = Kind::Volume;
    type Status = VolumeObjectStatus;
}

/// What controllers found about a volume.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeObjectStatus {
    /// Bytes in use, if known.
    pub used: Option<u64>,
}
