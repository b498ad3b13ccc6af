//! Connections to endpoints: opening, keeping and using them.

mod body;
mod connect;
mod link;
mod pool;

pub(crate) use body::{Outbound, Reply};
pub(crate) use connect::connect;
pub(crate) use link::{Link, Upgraded};
pub(crate) use pool::Upstream;
