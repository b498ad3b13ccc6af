//! The backend traits and their types. Each trait's contract is its doc comment; `tappaas-testkit` has a case for each sentence.

mod builder;
mod image;
mod ingress;
mod registry;
mod scheduler;
mod secrets;
mod volumes;

pub use builder::{BuildId, BuildOutcome, BuildRequest, Builder, BuilderCapabilities};
pub use image::{Image, ImageName};
pub use ingress::{
    Action, Draining, Frontend, IngressCapabilities, IngressProvider, Route, RouteId, RouteStatus,
    Signal, Target,
};
pub use registry::{Content, Reference, Registry, Repository, Tag};
pub use scheduler::{
    Autoscaling, Endpoint, Exec, ExecOutput, ExecRequest, Exit, InstanceId, InstanceState,
    InstanceStatus, LogLine, LogRequest, Mount, Node, Peer, PeerAddress, ReleaseSet, Scheduler,
    SchedulerCapabilities, Template, Track, Unplaced, Usage, Workload, WorkloadId, WorkloadStatus,
};
pub use secrets::{
    Secret, SecretCapabilities, SecretPath, SecretPrecondition, SecretStore, SecretVersion,
};
pub use volumes::{Volume, VolumeId, VolumeStatus, Volumes};

#[cfg(feature = "mock")]
#[doc(hidden)] // They are shown in `crate::mock`.
pub use {
    builder::MockBuilder, ingress::MockIngressProvider, registry::MockRegistry,
    scheduler::MockScheduler, secrets::MockSecretStore, volumes::MockVolumes,
};
