//! The edge of TAPPaaS: an HTTP reverse proxy that is an [`IngressProvider`](tappaas_core::backend::IngressProvider).
//!
//! # Two places to live
//!
//! [`Place::Process`] runs the edge as a process of its own, in its own session. It owns the listening sockets and keeps its last
//! table on disk, so that a server which stops, is killed or is upgraded disturbs no request: the next [`Ingress`] adopts the edge
//! with its routes. An edge of another version or configuration hands its sockets over to a new one, and ends with its last
//! connection. [`Place::InProcess`] runs it in this process, for embedders and tests.
//!
//! # What it promises
//!
//! - A route change is atomic, and its acknowledgement final: nothing new goes to an endpoint that the newest table does not name,
//!   and [`observe`](tappaas_core::backend::IngressProvider::observe) counts exactly what is still in flight there.
//! - Bodies stream both ways. Upgraded connections are tunnelled once the endpoint has agreed, and not a byte before.
//! - A path is normalised once; what is routed on is what is forwarded. A request that two readers could read differently is refused.
//! - What applications learn about the client (`X-Forwarded-*`, `Forwarded`, `X-Request-Id`) comes from the edge alone.
//! - Time, memory, connections and queues have bounds, all of them in [`EdgeConfig`].
//!
//! # Reading order
//!
//! `table` and `routes` (what is served) → `plane` (the table as requests read it) → `proxy` (a client's connection, a request) → `upstream`
//! (connections to endpoints) → `edge` (all of it, as a process) → `control` (its socket) → `ingress` (the provider).

mod access_log;
mod config;
mod control;
mod edge;
mod ingress;
mod inner;
mod listen;
mod metrics;
mod plane;
mod proxy;
mod routes;
mod signals;
mod table;
#[cfg(test)]
mod testing;
mod upstream;

pub use config::{AccessLog, EdgeConfig, IngressConfig, Limits, Place, Timeouts};
pub use edge::helper_main;
pub use ingress::Ingress;
