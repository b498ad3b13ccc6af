use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tappaas_core::{Digest, Name, Timestamp, model};
use utoipa::ToSchema;

/// One deployable thing in one environment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Raised at each change of what is wanted.
    pub generation: u64,
    /// The generation that the rest is about; while it is lower, the newest change was not looked at yet.
    pub observed: u64,
    /// What is being done.
    pub phase: Phase,
    /// The phase in a sentence, with the reason if something is wrong.
    pub message: String,
    /// The last release that became healthy.
    pub current: Option<u64>,
    /// The newest release, whatever became of it.
    pub latest: Option<u64>,
    /// Where its code comes from.
    pub source: Source,
    /// The image that serves.
    pub image: Option<String>,
    /// Where it answers.
    pub hosts: Vec<String>,
    /// Its processes, by name.
    #[schema(value_type = BTreeMap<String, Process>)]
    pub processes: BTreeMap<Name, Process>,
    /// What is worth knowing about where it runs, such as limits that do not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How a process is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Instances wanted.
    pub wanted: u32,
    /// Instances ready.
    pub ready: u32,
    /// Restarts of all its instances.
    pub restarts: u32,
    /// Why instances are missing or not ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// Where code comes from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// An uploaded archive.
    Upload {
        /// Its digest.
        #[schema(value_type = String)]
        digest: Digest,
    },
    /// A commit of a git repository.
    Git {
        /// The repository.
        url: String,
        /// The branch or tag.
        reference: String,
        /// The commit that it meant.
        commit: String,
    },
    /// An image that was there already.
    Image {
        /// What was asked for.
        reference: String,
        /// The digest that it meant.
        #[schema(value_type = String)]
        digest: Digest,
    },
    /// An image by its name; what it means is found out when it is built.
    Reference(String),
}

super::mirror! {
    /// What is being done about an application.
    Phase of model::Phase {
        /// Nothing yet.
        Pending,
        /// Its source is being built.
        Building,
        /// Its release command runs.
        Releasing,
        /// A release is replacing another.
        RollingOut,
        /// What is wanted runs.
        Running,
        /// What is wanted was refused; the last healthy release, if any, runs.
        Failed,
        /// It is being destroyed.
        Destroying,
    }
}

impl Application {
    pub(crate) fn new(name: Name, application: &model::Application, notes: Vec<String>) -> Self {
        let (metadata, status) = (&application.metadata, &application.status);
        let processes = status.processes.iter();
        Self {
            name,
            created: metadata.created,
            generation: metadata.generation,
            observed: status.generation,
            phase: status.phase.into(),
            message: status.message.clone(),
            current: status.current,
            latest: status.latest,
            source: (&application.spec.content.source).into(),
            image: status.image.as_ref().map(ToString::to_string),
            hosts: status.hosts.iter().map(ToString::to_string).collect(),
            processes: processes
                .map(|(name, process)| (name.clone(), process.into()))
                .collect(),
            notes,
        }
    }
}

impl From<&model::ProcessStatus> for Process {
    fn from(process: &model::ProcessStatus) -> Self {
        Self {
            wanted: process.wanted,
            ready: process.ready,
            restarts: process.restarts,
            reasons: process.reasons.clone(),
        }
    }
}

impl From<&model::Source> for Source {
    fn from(source: &model::Source) -> Self {
        match source {
            model::Source::Upload { digest, .. } => Self::Upload {
                digest: digest.clone(),
            },
            model::Source::Git {
                url,
                reference,
                commit,
            } => Self::Git {
                url: url.clone(),
                reference: reference.clone(),
                commit: commit.clone(),
            },
            model::Source::Image { reference, image } => Self::Image {
                reference: reference.clone(),
                digest: image.digest.clone(),
            },
            model::Source::Reference(name) => Self::Reference(name.clone()),
        }
    }
}
