mod running;
mod status;
mod workload;

use std::{collections::BTreeSet, fmt};

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

pub use self::{
    running::{Exec, ExecOutput, ExecRequest, LogLine, LogRequest},
    status::{
        Autoscaling, Endpoint, Exit, InstanceId, InstanceState, InstanceStatus, Node, Unplaced,
        Usage, WorkloadStatus,
    },
    workload::{Mount, Peer, PeerAddress, ReleaseSet, Template, Track, Workload, WorkloadId},
};
use crate::{
    Name, Result, Scope,
    model::{ApplicationKey, Limits, Runtime},
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
/// - A variable that [refers](crate::model::SecretReference) to the store that it [reads itself](SchedulerCapabilities::secrets) has the
///   value which that has when the instance starts; while there is none the instance does not start, and the reason names the secret. One
///   that refers to another store is refused with `Unsupported`, by the name of that.
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
    /// The name of the secret store that it reads by itself, if it has one, for the variables of an environment that refer to it.
    pub secrets: Option<Name>,
    /// Stop signals other than SIGTERM are obeyed; otherwise such a template is refused with `Unsupported`.
    pub stop_signals: bool,
}
