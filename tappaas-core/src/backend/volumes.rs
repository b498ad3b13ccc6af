use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Name, Result, model::ApplicationKey};

/// Keeps storage that outlives instances, releases and applications.
///
/// # Contract
/// - `apply` creates a volume, and changes nothing about its content if it is there.
/// - `apply` may raise a volume's size; lowering it is `Invalid`.
/// - Content written by an instance is there for the next instance that mounts the volume.
/// - `remove` deletes the content; of an unknown volume it succeeds; of one that an instance holds it is `Conflict`.
/// - `observe` of an unknown volume returns `None`; `list` returns every volume there is.
/// - `snapshot` keeps a copy under a name; the same name again is `AlreadyExists`. Where it cannot be done it is `Unsupported`.
/// - Every method may be called again after any failure or a lost reply.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Volumes: fmt::Debug + Send + Sync + 'static {
    /// Takes a volume's desired state.
    async fn apply(&self, volume: &Volume) -> Result<()>;

    /// Says how a volume is.
    async fn observe(&self, id: &VolumeId) -> Result<Option<VolumeStatus>>;

    /// Names every volume there is.
    async fn list(&self) -> Result<Vec<VolumeId>>;

    /// Deletes a volume and its content.
    async fn remove(&self, id: &VolumeId) -> Result<()>;

    /// Keeps a copy of a volume's content.
    async fn snapshot(&self, id: &VolumeId, name: &Name) -> Result<()>;
}

/// The identity of a [`Volume`].
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct VolumeId {
    /// Whose volume this is, or was.
    pub application: ApplicationKey,
    /// Unique within the application.
    pub name: Name,
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.application, self.name)
    }
}

/// Storage with its own life.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Which volume.
    pub id: VolumeId,
    /// The size asked for in bytes; a backend that cannot enforce it says so in [`VolumeStatus::notes`].
    pub size: Option<u64>,
}

/// How a volume is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// Bytes in use, if known.
    pub used: Option<u64>,
    /// What is worth knowing, such as a size that is not enforced.
    pub notes: Vec<String>,
}
