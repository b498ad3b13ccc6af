//! One Linux machine as a TAPPaaS backend: sandboxed instances, their networks and logs.
//!
//! Instances are run by small helper processes, so that they outlive the server. The program that embeds this crate is its own
//! helper if it calls [`helper_main`] first thing in `main`.

pub mod archive;
mod builder;
mod doctor;
mod fault;
mod fileserver;
mod image;
mod instance;
mod network;
mod sandbox;
mod scheduler;
mod shim;
mod volumes;
mod watched;

pub use builder::{BuildLimits, BuildNetwork, Builder, BuilderConfig, BuilderParts};
pub use doctor::{Finding, Report, State};
pub use instance::{
    Adopted, Execution, Instance, Line, LogReader, Phase, Status, Stream, Streams, Terminal, end,
    reap, run_to_completion,
};
pub use network::{Attachment, NetworkSettings, Networks, Range, nameservers};
pub use sandbox::{
    Account, Bind, Enforced, HostStack, Isolation, Limits, LogLimits, Network, Restart, Root, Spec,
    Stop, User,
};
pub use scheduler::{
    CapacityConfig, Confinement, Confines, DefaultLimits, LogConfig, NetworkConfig, Scheduler,
    SchedulerConfig,
};
pub use shim::{Listener, helper_main};
pub use volumes::Volumes;
