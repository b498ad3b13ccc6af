//! In-memory reference backends, one for each trait: what the traits mean, and what tests run on.
//!
//! Nothing here opens a socket or a file. [`Scheduler`] simulates processes as their [`Behaviour`] says, they listen on a
//! [`Network`] of made-up addresses, and [`Ingress::request`] is a request from outside. All delays go through the given
//! [`Clock`](crate::Clock), so that with tokio's paused time hours pass in an instant.

mod behaviour;
mod builder;
mod changes;
mod clock;
mod durable;
mod entry;
mod ingress;
mod instance;
mod lock;
mod logs;
mod network;
mod probe;
mod registry;
mod routing;
mod scheduler;
mod secrets;
mod settle;
mod store;
mod table;
mod userland;
mod volumes;
mod workloads;

pub use behaviour::{Behaviour, End};
pub use builder::{Builder, Recipe};
pub use clock::{Clock, Ids};
pub use durable::Durable;
pub use ingress::Ingress;
pub use network::{Answer, Failure, Handler, Listening, Network};
pub use registry::Registry;
pub use scheduler::Scheduler;
pub use secrets::SecretStore;
pub use store::Store;
pub use volumes::Volumes;
