//! Registries that somebody else runs, over HTTP.

mod config;
mod failure;
mod registry;
mod remote;

pub use config::{Config, Credential};
pub use registry::Registry;
