//! TAPPaaS on etcd: [`Store`](tappaas_core::Store) for several servers at once, and who leads of them.
//!
//! [`Keyspace`] keeps objects below a prefix of an etcd cluster, and [`Candidate`] leads by a lease there. Nothing but Rust is needed to
//! build this: the part of etcd's protocol that is spoken is written down here.
//!
//! What it does not do: compact etcd's history, defragment its files, back it up. That is for whoever runs the cluster.

mod client;
mod config;
mod failure;
mod keyspace;
mod layout;
mod leader;
mod member;
mod messages;
mod reading;
mod transaction;
mod watching;
mod writing;

pub use config::{Config, Identity, Login, Tls};
pub use keyspace::Keyspace;
pub use leader::Candidate;
