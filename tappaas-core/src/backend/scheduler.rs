use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    Digest, Error, Name, Result, Scope, Timestamp,
    backend::{Image, VolumeId},
    model::{
        ApplicationKey, Autoscale, Command, EnvValue, Limits, Port, Probes, Resources,
        RestartPolicy, Rollout, Runtime, Stop, User,
    },
};

/// Runs the processes of applications somewhere.
///
/// # Contract
/// - `apply` is idempotent: the same workload with the same generation changes nothing.
/// - `apply` refuses a generation lower than the last one it took, and the same generation with other content, with `Conflict`.
/// - `apply` returns once the workload is recorded; instances follow in their own time.
/// - As soon as `apply` returned, `observe` reports the new generation and counts, and the instances that have to go as [`InstanceState::Stopping`].
/// - What cannot be placed is a value with reasons ([`WorkloadStatus::unplaced`]), never an error.
/// - An instance is ready only while its process runs and its readiness probe succeeds; without a probe: a
///   connection to its first port; without a port: it has run for a second.
/// - A ready instance has an endpoint for each of its ports, and a request to that endpoint reaches that instance. Where the scheduler
///   balances by itself the workload has them ([`WorkloadStatus::endpoints`]), and a request reaches one of its ready instances.
/// - Where not [`SchedulerCapabilities::stepwise`], `apply` takes one release at most, and how its instances replace those of the one before
///   ([`Workload::rollout`]): ready new ones before old ones go, but for a process with a volume for writing, which stops first. Old
///   ones stay while new ones do not become ready.
/// - Where stepwise, when a release's count falls, the instances named in [`ReleaseSet::retiring`] stop first; the others stay untouched.
/// - Where stepwise, `apply` never restarts an instance that stays, not even when a release's template changed: a template is for new instances.
/// - Where stepwise, several releases of one workload run side by side with exactly the counts asked for.
/// - An instance is stopped with its stop signal, and killed once its grace is over.
/// - A process that ends is started again as its restart policy says, with growing delays; one that keeps ending is in [`InstanceState::CrashLoop`].
/// - A process that is not started again stays [`InstanceState::Exited`] with its exit, and counts as an instance, until its release's count falls.
/// - A process whose liveness probe fails for good is killed and started again.
/// - Where it [finds ports](SchedulerCapabilities::finds_ports), an undeclared port that nothing listens on is replaced by the only one
///   that the process listens on; a declared one never is.
/// - What somebody else changed of a workload is told ([`WorkloadStatus::drift`]), and set right by the next `apply`.
/// - A volume mounted for writing is held by one instance at a time; another one waits for it in [`InstanceState::Starting`] and says so.
/// - Each process sees the environment, command, user and limits of its template.
/// - `observe` of a workload never applied, or removed, returns `None`.
/// - `remove` of an unknown workload succeeds; afterwards, in a while, nothing of the workload is left.
/// - `list` returns every workload that something is left of.
/// - `logs` returns the lines of all instances, also ended ones, in order of time; with `follow` it goes on with later lines. Of
///   instances that are gone only where the scheduler [keeps logs](SchedulerCapabilities::keeps_logs).
/// - `exec` runs a command inside an instance, with the environment and user of its template, and returns its output and exit code;
///   where no process runs it is `NotFound`.
/// - `peer` always gives the same answer for the same question; instances reach that address only if their template names the peer.
/// - Where it [autoscales](SchedulerCapabilities::autoscaling), a workload with [`Workload::autoscale`] has as many instances as the
///   scheduler finds right between those bounds, whatever the count of its release; [`WorkloadStatus::autoscaling`] tells how many that
///   are, and `apply` only brings them within the bounds. Elsewhere such a workload is refused with `Unsupported`.
/// - A [runtime](crate::placement::Constraints::runtime) that it does not [have](SchedulerCapabilities::runtimes) is refused with
///   `Unsupported`, by its name.
/// - `prepare` makes what an environment needs before anything of it runs, and names the namespace that it has then, if the scheduler has
///   such; again it changes nothing. Who only applies need not call it.
/// - Where it [holds quotas](SchedulerCapabilities::quotas), all workloads of an environment together take no more than the limits last
///   given to `prepare`: an instance beyond them is not placed, with the limit as its reason, until there is room or they are raised. What
///   runs already goes on. Elsewhere `prepare` refuses limits with `Unsupported`, and changes nothing.
/// - What somebody else changed of what keeps the limits is set right by the next `prepare`.
/// - `discard` removes all that `prepare` made, once the environment's workloads have been removed; of an unknown environment it succeeds.
///   Until all of it is gone it is `Unavailable`.
/// - `watch` names a workload soon after something about it changed; names may come twice or needlessly.
/// - Every method may be called again after any failure or a lost reply.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Scheduler: fmt::Debug + Send + Sync + 'static {
    /// What callers plan around.
    fn capabilities(&self) -> SchedulerCapabilities;

    /// The machines that instances can run on.
    async fn nodes(&self) -> Result<Vec<Node>>;

    /// Makes what an environment needs, and sees to it that it keeps its limits.
    async fn prepare(&self, environment: &Scope, limits: &Limits) -> Result<Option<String>>;

    /// Removes what an environment needed, once it has nothing in it any more.
    async fn discard(&self, environment: &Scope) -> Result<()>;

    /// Takes a workload's desired state.
    async fn apply(&self, workload: &Workload) -> Result<()>;

    /// Says how a workload is.
    async fn observe(&self, id: &WorkloadId) -> Result<Option<WorkloadStatus>>;

    /// Names every workload there is, so that orphans are found.
    async fn list(&self) -> Result<Vec<WorkloadId>>;

    /// Stops a workload's instances and forgets it.
    async fn remove(&self, id: &WorkloadId) -> Result<()>;

    /// Reads what a workload's instances wrote.
    async fn logs(&self, request: &LogRequest) -> Result<BoxStream<'static, Result<LogLine>>>;

    /// Runs a command inside a running instance.
    async fn exec(&self, request: &ExecRequest) -> Result<Exec>;

    /// Says at which address the instances of `from` reach a peer.
    async fn peer(&self, from: &ApplicationKey, peer: &Peer) -> Result<PeerAddress>;

    /// Names the workloads that changed, as they change.
    async fn watch(&self) -> Result<BoxStream<'static, WorkloadId>>;
}

/// What callers of a [`Scheduler`] plan around.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchedulerCapabilities {
    /// Counts per release are obeyed one by one, so that core can roll; otherwise the scheduler rolls by itself.
    pub stepwise: bool,
    /// Limits on CPU, memory and processes hold.
    pub limits: bool,
    /// Images of a stack that exists on this machine alone can run.
    pub host_stack: bool,
    /// Endpoints are [`Endpoint::Dial`]: an ingress must be able to open them.
    pub dial_endpoints: bool,
    /// Endpoints are [`Endpoint::Service`]: an ingress must be able to resolve them.
    pub service_endpoints: bool,
    /// An undeclared port is looked for among those that the process listens on.
    pub finds_ports: bool,
    /// What instances wrote can be read when they are gone.
    pub keeps_logs: bool,
    /// Environments have namespaces ([`Scheduler::prepare`]).
    pub namespaces: bool,
    /// An environment keeps the limits given to [`Scheduler::prepare`]; otherwise any are refused with `Unsupported`.
    pub quotas: bool,
    /// A workload's instances can be as many as their work takes ([`Workload::autoscale`]). Only where not [`Self::stepwise`].
    pub autoscaling: bool,
    /// The runtimes that it has machines for, besides the standard one; otherwise such a template is refused with `Unsupported`.
    pub runtimes: BTreeSet<Runtime>,
    /// Stop signals other than SIGTERM are obeyed; otherwise such a template is refused with `Unsupported`.
    pub stop_signals: bool,
}

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
    /// `Conflict`, as the contract of [`Scheduler::apply`] says.
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

/// The identity of an instance, unique over all instances that ever were.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct InstanceId(pub String);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How a workload is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The generation last applied.
    pub generation: u64,
    /// [`Workload::content`] of what was last applied.
    pub content: Digest,
    /// The count last applied, per release.
    pub counts: BTreeMap<u64, u32>,
    /// Every instance, stopping ones included, in order of age.
    pub instances: Vec<InstanceStatus>,
    /// What could not be placed, and why.
    pub unplaced: Vec<Unplaced>,
    /// What becomes of [`Workload::autoscale`], if that was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Where a port of the ready instances is reached, by the port's name, if the scheduler balances by itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<Name, Endpoint>,
    /// What somebody else changed of it since it was applied, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<String>,
}

/// How a workload is autoscaled.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// The bounds last applied.
    pub bounds: Autoscale,
    /// How many instances the scheduler wants now.
    pub wanted: u32,
    /// Why it does not know how many are right, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindrance: Option<String>,
}

/// Instances that could not be placed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unplaced {
    /// Of which release.
    pub release: u64,
    /// How many.
    pub missing: u32,
    /// Why no node takes them, one reason a group of nodes.
    pub reasons: Vec<String>,
}

/// How an instance is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// Which instance.
    pub id: InstanceId,
    /// Of which release.
    pub release: u64,
    /// Where it runs.
    pub node: String,
    /// What it is doing.
    pub state: InstanceState,
    /// It may get traffic.
    pub ready: bool,
    /// Where its ports are reached, by the port's name.
    pub endpoints: BTreeMap<Name, Endpoint>,
    /// The port used instead of an undeclared default one, because it was the only one listened on.
    pub found_port: Option<u16>,
    /// How often its process was started again.
    pub restarts: u32,
    /// When it was placed.
    pub created: Timestamp,
    /// Why it is not ready, in a sentence.
    pub reason: Option<String>,
    /// How its process ended last.
    pub exit: Option<Exit>,
    /// What it uses.
    pub usage: Option<Usage>,
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Its image is fetched, its sandbox is made.
    Starting,
    /// Its process runs.
    Running,
    /// Its process was told to stop.
    Stopping,
    /// Its process ended and is not started again.
    Exited,
    /// Its process keeps ending; the next start waits.
    CrashLoop,
}

/// How a process ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit code, if it exited.
    pub code: Option<i32>,
    /// The signal, if one killed it.
    pub signal: Option<i32>,
    /// It was killed because it exceeded its memory limit.
    pub out_of_memory: bool,
    /// When.
    pub at: Timestamp,
}

impl Exit {
    /// Says whether it exited with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.out_of_memory, self.code, self.signal) {
            (true, ..) => f.write_str("exceeded its memory limit"),
            (_, Some(code), _) => write!(f, "exited with code {code}"),
            (_, _, Some(signal)) => write!(f, "was killed by signal {signal}"),
            (_, None, None) => f.write_str("ended"),
        }
    }
}

/// Where a port of an instance is reached.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Endpoint {
    /// At an address.
    Address(SocketAddr),
    /// Through a unix socket that hands over connections: write the port (u16, big-endian), receive a status byte (0: here it is)
    /// and the connected socket as `SCM_RIGHTS`.
    Dial {
        /// The unix socket.
        socket: PathBuf,
        /// The port inside.
        port: u16,
    },
    /// Behind a service of the cluster, which balances by itself.
    Service {
        /// The service's DNS name.
        host: String,
        /// The service's port.
        port: u16,
    },
}

/// What an instance uses.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// CPU time since its start.
    pub cpu: Duration,
    /// Memory in bytes, caches that can be dropped not counted.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// A machine that instances can run on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it offers to placement.
    pub offer: crate::placement::Offer,
    /// Instances can start there now.
    pub ready: bool,
    /// What is worth knowing, such as limits that do not hold.
    pub notes: Vec<String>,
}

/// Which log lines to read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRequest {
    /// Of this application,
    pub application: ApplicationKey,
    /// of this process (`None`: all),
    pub process: Option<Name>,
    /// of this release (`None`: all),
    pub release: Option<u64>,
    /// not before this time,
    pub since: Option<Timestamp>,
    /// of those the last so many (`None`: all kept),
    pub tail: Option<usize>,
    /// then the later ones, until the stream is dropped.
    pub follow: bool,
}

/// A line that a process or a build wrote.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// When it was read.
    pub at: Timestamp,
    /// The process and instance it comes from; for a build, its step.
    pub origin: String,
    /// Standard error, not standard output.
    pub error: bool,
    /// The line without its end. Invalid UTF-8 is replaced.
    pub text: String,
}

/// What to run inside an instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecRequest {
    /// In a ready instance of this workload,
    pub workload: WorkloadId,
    /// in this one in particular,
    pub instance: Option<InstanceId>,
    /// this program with these arguments,
    pub command: Vec<String>,
    /// on a terminal of so many columns and rows.
    pub terminal: Option<(u16, u16)>,
}

/// A command running inside an instance. Dropping both halves ends it.
pub struct Exec {
    /// What goes to its standard input; dropping it closes that.
    pub input: mpsc::Sender<Bytes>,
    /// What comes out, the exit last.
    pub output: BoxStream<'static, Result<ExecOutput>>,
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").finish_non_exhaustive()
    }
}

/// What comes out of an [`Exec`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ExecOutput {
    /// Bytes of standard output (with a terminal: all output).
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// The exit code (128 + signal if one killed it). The last item.
    Exited(i32),
}
