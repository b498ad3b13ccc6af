//! How a server drives an edge in another process: frames of JSON over a unix socket that its owner alone can reach.

mod client;
mod descriptors;
mod frame;
mod protocol;
mod server;
mod socket;

pub(crate) use client::{Connection, unexpected};
pub(crate) use descriptors::receive_listeners;
pub(crate) use protocol::{Ask, HandedDoor, Hello, PROTOCOL, Tell, Unbound};
pub(crate) use server::{Daemon, Stop, accept};
pub(crate) use socket::{bind, connect};
