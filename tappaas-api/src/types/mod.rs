//! What goes over the wire, for server and client alike.
//!
//! Requests refuse fields they do not know. Answers may gain fields: a client passes over what it does not know.

mod application;
mod build;
mod config;
mod deploy;
mod environment;
mod exec;
mod instance;
mod log;
mod operation;
mod path;
mod problem;
mod release;
mod server;
mod volume;

pub use application::{Application, Phase, Process, Source};
pub use build::{Build, BuildPhase};
pub use config::{ConfigChange, Layer, Variable};
pub use deploy::{Accepted, Deployment, Plan, RollbackRequest, Scale, SourceRequest, Step};
pub use environment::Environment;
pub use exec::{ExecRequest, Frame, FrameCodec, PROTOCOL, Terminal};
pub use instance::{Exit, Instance, InstanceState, Usage};
pub use log::{BuildLogQuery, LogEvent, LogLine, LogQuery, LogStream};
pub use operation::{Operation, OperationEvent, OperationState, OperationVerb};
pub use path::{
    ApplicationPath, BuildPath, EnvironmentPath, OperationPath, ProjectPath, ReleasesPath,
    SourcePath, VolumePath,
};
pub use problem::{Kind, Problem};
pub use release::{Change, Difference, Release, ReleasePhase, RevealQuery};
pub use server::{Stop, Version};
pub use volume::Volume;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Things of one kind, in order.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct List<T> {
    /// The things.
    pub items: Vec<T>,
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self {
            items: items.into_iter().collect(),
        }
    }
}

/// An enum of the wire with the variants of one of the model, so that the model can change without the wire.
macro_rules! mirror {
    ($(#[$meta:meta])* $name:ident of $model:path { $($(#[$doc:meta])* $variant:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl From<$model> for $name {
            fn from(model: $model) -> Self {
                match model {
                    $(<$model>::$variant => Self::$variant,)*
                }
            }
        }
    };
}
use mirror;
