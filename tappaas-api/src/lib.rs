//! The TAPPaaS HTTP API: REST over a unix socket, its OpenAPI document, a second router for operators, and a typed client.
//!
//! [`router`] is the API without a transport. [`serve`] serves it on a unix socket that its owner alone may open, which is all the access
//! control there is: until tokens exist the API is not to be put on TCP. [`admin::router`] answers health checks and metrics.
//!
//! What takes its time answers 202 and an operation, whose progress can be followed. What is endless (logs, progress) is newline-delimited
//! JSON. Whatever goes wrong is a [`types::Problem`]. Values of environment variables are left out unless a request says `reveal`.

mod difference;
mod exec;
mod extract;
mod failure;
mod handlers;
mod metrics;
mod ndjson;
mod router;
mod serve;
mod state;

pub mod admin;
#[cfg(feature = "client")]
pub mod client;
pub mod types;

pub use metrics::{Metrics, Source as MetricsSource};
pub use router::{openapi, router};
pub use serve::{listen, serve};
pub use state::{Limits, State};
