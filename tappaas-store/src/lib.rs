//! [`Store`](tappaas_core::Store) and [`Durable`](tappaas_core::Durable) on an embedded database: one directory, one process, no server.
//!
//! [`Embedded`] keeps both in one file. All writes go through one thread, which decides them in order of arrival, writes as many as are
//! waiting in one transaction, syncs, and only then answers. Reads come from snapshots and never wait for a writer.

mod committer;
mod config;
mod embedded;
mod failure;
mod history;
mod layout;
mod listing;
mod lock;
mod medium;
mod rows;
mod state;
mod transaction;
mod watching;

pub use config::{Config, Limits};
pub use embedded::Embedded;
