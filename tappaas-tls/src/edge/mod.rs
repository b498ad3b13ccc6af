//! An edge: listeners, proxy and table as one thing, in this process or as a process of its own.

mod file;
mod kept;
mod process;
mod run;

pub use process::helper_main;
pub(crate) use process::{EDGE_ARGUMENT, READY, TAKE_OVER_ARGUMENT, write_config};
pub(crate) use run::{Edge, Inherited};
