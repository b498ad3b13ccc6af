//! `tappaas.toml`: what a repository says about how it is built, run and reached.
//!
//! [`Manifest::parse`] reads the file and answers with line and caret if something in it cannot be meant; [`Manifest::resolve`] is the one
//! place where it becomes what a deployment consists of. Every key is optional, an empty file is a good manifest, and an unknown key is an
//! error.
//!
//! A stage may differ from the rest in its `[environments.<name>]`: `env` is merged over the variables, `processes.<name>` changes
//! `replicas`, `autoscale` and single `resources`, `rollout` single values, and `routes` replaces all routes. Nothing else differs between stages, so
//! that what was tested is what goes on.

mod check;
mod document;
mod error;
mod process;
mod procfile;
mod resolve;
mod schema;
mod values;

pub use document::{Binding, Build, Changes, Manifest, ProcessChanges, Rollout, Route, Volume};
pub use error::Error;
pub use process::{
    Autoscale, Port, PortNumber, Ports, Probe, ProbeSettings, Probes, Process, Resources, Stop,
    TcpCheck,
};
pub use procfile::Procfile;
pub use resolve::Resolved;
pub use values::{Bytes, CommandLine, Cpu, Seconds, Variable};
