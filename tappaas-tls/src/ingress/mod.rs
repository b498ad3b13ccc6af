//! The ingress provider over an edge.

mod desired;
mod driver;
mod provider;
mod supervisor;

pub use provider::Ingress;
