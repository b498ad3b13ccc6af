//! One confined process: its specification, and what sets it up from inside the single-threaded shim.

mod account;
mod cgroup;
mod container;
mod direct;
mod etc;
mod executor;
mod inside;
mod namespaces;
mod oci;
mod rootfs;
mod seccomp;
mod spec;
mod stack;

pub use self::{
    account::Account,
    cgroup::Enforced,
    spec::{Bind, Isolation, Limits, LogLimits, Network, Restart, Root, Spec, Stop, User},
    stack::HostStack,
};
pub(crate) use self::{
    cgroup::{Cgroup, Controller, Layout},
    container::{Container, Extra, Output, Run, StandardStreams},
    direct::Direct,
    executor::resize,
    inside::{children, collect_children, inside_of, usage_of},
    namespaces::{IdMap, Mapper, enter},
    seccomp::Filter,
};
