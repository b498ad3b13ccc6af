//! The shim: one small single-threaded process per instance, which outlives the server.
//!
//! It sets the sandbox up, starts the process and starts it again when it crashes, writes its log, answers at two sockets in the
//! instance's folder, and cleans up. Only its own death makes an instance unsupervised: the process then goes on serving, for
//! killing it would turn a lost supervisor into an outage; whoever finds the shim dead starts a replacement and
//! [reaps](crate::instance::reap) what is left.

mod clock;
mod control;
mod dial;
mod handshake;
mod helper;
mod log;
mod machine;
pub(crate) mod passing;
mod ports;
pub(crate) mod protocol;
mod record;
mod restart;
mod signals;
mod starvation;
mod supervisor;

pub use self::{helper::helper_main, ports::Listener};
pub(crate) use self::{
    helper::{PROBE, SHIM},
    log::FILE as LOG_FILE,
    record::{Identity, Record, boot_id},
};
