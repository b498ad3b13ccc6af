//! The builder of one machine: source in, image out, in a sandbox whose limits no build can exceed at the expense of the machine.

mod alone;
mod backend;
mod config;
mod detect;
mod disk;
mod fit;
mod image;
mod ledger;
mod log;
mod room;
mod run;
mod sandbox;
mod site;
mod source;
mod work;

pub use backend::{Builder, BuilderParts};
pub use config::{BuildLimits, BuildNetwork, BuilderConfig};
