//! What is to run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::InstanceId;
use crate::{
    Digest, Error, Name, Result,
    backend::{Image, VolumeId},
    model::{
        ApplicationKey, Autoscale, Command, EnvValue, Port, Probes, Resources, RestartPolicy,
        Rollout, Runtime, Stop, User,
    },
};

/// The identity of a [`Workload`].
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct WorkloadId {
    /// Whose process this is.
    pub application: ApplicationKey,
    /// The process's name.
    pub process: Name,
    /// Which of the side-by-side workloads of this process.
    pub track: Track,
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.application, self.process)?;
        match self.track {
            Track::Stable => Ok(()),
            Track::Candidate => f.write_str("@candidate"),
        }
    }
}

/// Which of the side-by-side workloads of a process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// What serves.
    Stable,
    /// What is on trial beside it.
    Candidate,
}

/// One process of one application on one track: what a scheduler runs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Which workload.
    pub id: WorkloadId,
    /// Raised at each change of content.
    pub generation: u64,
    /// The releases that run side by side, in order of their versions.
    pub releases: Vec<ReleaseSet>,
    /// How a scheduler that is not stepwise replaces instances of an earlier release; `None` where core does it, step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Between which bounds the scheduler decides how many instances run; `None`: as many as counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
}

impl Workload {
    /// The digest of all but the generation: equal content needs no new `apply`.
    pub fn content(&self) -> Digest {
        let json = match (&self.rollout, &self.autoscale) {
            (None, None) => serde_json::to_vec(&(&self.id, &self.releases)),
            (Some(rollout), None) => serde_json::to_vec(&(&self.id, &self.releases, rollout)),
            (rollout, bounds) => serde_json::to_vec(&(&self.id, &self.releases, rollout, bounds)),
        };
        Digest::of(json.expect("a workload has string keys only"))
    }

    /// Refuses a runtime that a scheduler does not have.
    ///
    /// # Errors
    /// `Unsupported`, naming it.
    pub fn check_runtimes(&self, had: &BTreeSet<Runtime>) -> Result<()> {
        let mut asked = self
            .releases
            .iter()
            .map(|set| set.template.placement.runtime);
        let Some(runtime) = asked.find(|it| !it.is_standard() && !had.contains(it)) else {
            return Ok(());
        };
        let mut known = vec![Runtime::Standard.to_string()];
        known.extend(had.iter().map(ToString::to_string));
        Err(Error::unsupported(format!(
            "process {} asks for the runtime `{runtime}`, which this platform does not have; it has {}",
            self.id.process,
            known.join(", ")
        )))
    }

    /// Refuses variables that refer to another secret store than the one that a scheduler reads, if it reads any.
    ///
    /// # Errors
    /// `Unsupported`, naming variable and store; `Invalid` if one is no reference, though meant as that.
    pub fn check_references(&self, own: Option<&Name>) -> Result<()> {
        let sets = self.releases.iter();
        for (name, value) in sets.flat_map(|set| &set.template.environment) {
            let reference = value.reference();
            let reference = reference
                .map_err(|error| Error::invalid(format!("variable {name}: {}", error.message())))?;
            if let Some(foreign) = reference.filter(|it| Some(&it.store) != own) {
                return Err(Error::unsupported(foreign.not_here(name, own)));
            }
        }
        Ok(())
    }

    /// Refuses to be autoscaled, for schedulers that cannot.
    ///
    /// # Errors
    /// `Unsupported` if it is to be.
    pub fn refuse_autoscale(&self) -> Result<()> {
        match self.autoscale {
            None => Ok(()),
            Some(_) => Err(Error::unsupported(format!(
                "workload {} cannot be autoscaled: this scheduler runs as many instances as it is told to",
                self.id
            ))),
        }
    }

    /// Decides whether a scheduler that last took `generation` with `content` takes this workload. `Ok(false)`: it has it already.
    ///
    /// # Errors
    /// `Conflict`, as the contract of [`Scheduler::apply`](super::Scheduler::apply) says.
    pub fn supersedes(&self, generation: u64, content: &Digest) -> Result<bool> {
        let conflict = |why| {
            Err(Error::conflict(format!(
                "{} generation {}: {why}",
                self.id, self.generation
            )))
        };
        match self.generation.cmp(&generation) {
            std::cmp::Ordering::Less => {
                conflict(format!("generation {generation} was applied already"))
            }
            std::cmp::Ordering::Equal if self.content() != *content => {
                conflict("this generation was applied with other content".to_owned())
            }
            std::cmp::Ordering::Equal => Ok(false),
            std::cmp::Ordering::Greater => Ok(true),
        }
    }
}

/// The instances of one release within a workload.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseSet {
    /// The release's version.
    pub release: u64,
    /// How many instances run.
    pub count: u32,
    /// The instances that stop first when the count falls.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub retiring: BTreeSet<InstanceId>,
    /// What each instance is.
    pub template: Template,
}

/// What an instance is made from.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// The image, by digest.
    pub image: Image,
    /// What to run; `None`: what the image says.
    pub command: Option<Command>,
    /// The whole environment, `PORT` included.
    pub environment: BTreeMap<String, EnvValue>,
    /// The ports inside the instance.
    pub ports: Vec<Port>,
    /// Limits.
    pub resources: Resources,
    /// How health is told.
    pub probes: Probes,
    /// How to stop.
    pub stop: Stop,
    /// What happens when the process ends.
    pub restart: RestartPolicy,
    /// Who the process runs as.
    pub user: User,
    /// Volumes seen inside.
    pub mounts: Vec<Mount>,
    /// The only other applications that instances can reach: the declared bindings.
    pub peers: Vec<Peer>,
    /// Where instances may run.
    pub placement: crate::placement::Constraints,
}

/// A volume seen inside an instance.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Which volume.
    pub volume: VolumeId,
    /// The absolute path inside.
    pub path: PathBuf,
    /// Writes are refused.
    pub read_only: bool,
}

/// An application that instances can reach, because a binding says so.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The application bound to.
    pub application: ApplicationKey,
    /// Its process.
    pub process: Name,
    /// The name of that process's port.
    pub port: Name,
}

/// Where instances reach a [`Peer`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerAddress {
    /// The host to connect to, from inside.
    pub host: String,
    /// The port to connect to, from inside.
    pub port: u16,
    /// Where the ingress must listen for these connections ([`Frontend::Inner`](crate::backend::Frontend::Inner)), if it must.
    pub listen: Option<SocketAddr>,
}
