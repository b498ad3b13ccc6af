use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Name, Result,
    backend::{Image, LogLine, Repository},
    model::{BuildSpec, Command, Source},
};

/// Turns source into an image in a registry.
///
/// # Contract
/// - `build` returns once the image is in the request's repository, whole.
/// - The key of a build is its source digest, its spec and the fingerprint of its stack: a finished key is answered without building
///   while its image is still in the repository, and a running key is attached to.
/// - The same key gives the same image digest, whenever and wherever it is built.
/// - The source of a request is never a [`Source::Reference`]: which image it means is found out before.
/// - A builder without [`BuilderCapabilities::sources`] takes images alone, and leaves them where they are.
/// - A build that fails because of its source is `Invalid`, with the reason; one that exceeds a limit is `Exhausted` and names the limit; a cancelled one is `Conflict`.
/// - Dropping the future of `build` does not end the build: calling `build` again attaches to it.
/// - `cancel` ends a build if no other request is attached to it; `cancel` of an unknown or ended build succeeds.
/// - `logs` returns the lines of a build, also after it ended, in order; with `follow` it goes on until the build ends.
/// - `list` names every request that is queued or running.
/// - A build can neither read nor change anything of the machine but its source, its stack and its cache.
/// - Every method may be called again after any failure or a lost reply.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Builder: fmt::Debug + Send + Sync + 'static {
    /// What callers plan around.
    fn capabilities(&self) -> BuilderCapabilities;

    /// Builds, or attaches to the running build, or answers from the cache.
    async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome>;

    /// Names the requests that are queued or running.
    async fn list(&self) -> Result<Vec<BuildId>>;

    /// Ends a build.
    async fn cancel(&self, id: &BuildId) -> Result<()>;

    /// Reads what a build wrote.
    async fn logs(&self, id: &BuildId, follow: bool)
    -> Result<BoxStream<'static, Result<LogLine>>>;
}

/// What callers of a [`Builder`] plan around.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuilderCapabilities {
    /// The stacks there are, with their fingerprints.
    pub stacks: BTreeMap<String, String>,
    /// Source code is built. If not, images alone are taken.
    pub sources: bool,
    /// Images are of a stack that exists on this machine alone.
    pub host_stack: bool,
}

/// The identity of a build request: the uid of its Build object.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct BuildId(pub String);

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What to build.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildRequest {
    /// Which request this is.
    pub id: BuildId,
    /// Where to read from.
    pub source: Source,
    /// How to build.
    pub spec: BuildSpec,
    /// Where the image goes; uploaded sources are blobs there, too.
    pub repository: Repository,
}

/// What a build came to.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildOutcome {
    /// The image.
    pub image: Image,
    /// The processes that the source declares or that were detected, by name.
    pub processes: BTreeMap<Name, Command>,
    /// What was detected, for people: `go 1.26, module example.com/hello`.
    pub detected: String,
    /// The stack's name and fingerprint, if the image needs one.
    pub stack: Option<String>,
    /// Nothing had to be built.
    pub cached: bool,
}
