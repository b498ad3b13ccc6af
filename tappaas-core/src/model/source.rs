use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Digest,
    backend::{Image, Repository},
    model::Command,
};

/// What a build reads. Never a path on somebody's disk.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A deterministic archive (gzip-compressed tar), kept as a blob.
    Upload {
        /// Where the blob is.
        repository: Repository,
        /// The archive's digest.
        digest: Digest,
    },
    /// A commit of a git repository.
    Git {
        /// `https://` or `ssh://`.
        url: String,
        /// The branch or tag that was asked for.
        reference: String,
        /// The commit it meant, 40 hexadecimal digits.
        commit: String,
    },
    /// An image that is there already.
    Image {
        /// What was asked for, such as `docker.io/library/nginx:1.27`.
        reference: String,
        /// What it meant.
        image: Image,
    },
    /// An image by its name, such as `registry.example/app:1.2` or `registry.example/app@sha256:…`. What it means is found out when it is
    /// built: with a digest nobody has to be asked, with a tag the registry is.
    Reference(String),
}

impl Source {
    /// Says whether there is nothing to build.
    pub fn is_image(&self) -> bool {
        match self {
            Self::Image { .. } | Self::Reference(_) => true,
            Self::Upload { .. } | Self::Git { .. } => false,
        }
    }
}

/// How to build.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildSpec {
    /// By which strategy; `None`: told from the source.
    pub strategy: Option<Strategy>,
    /// The stack to build and run on; `None`: the builder's first.
    pub stack: Option<String>,
    /// What to run instead of the detected build steps.
    pub command: Option<Command>,
    /// Raised to build again although nothing changed.
    pub attempt: u64,
    /// The platform's name for the application: a builder uses it to choose between several programs of one source.
    pub name: String,
}

/// A way to turn source into an image.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// A slug on a stack, told from the source's files.
    Stack,
    /// A prebuilt image.
    Image,
}
