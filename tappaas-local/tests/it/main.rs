//! Everything about one machine, in one binary.

mod archive;
mod scheduler;

/// Tests that run instances take turns: a census counts what is left on the whole machine.
pub(crate) static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
