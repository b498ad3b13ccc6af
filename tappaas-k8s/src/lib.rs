//! TAPPaaS on Kubernetes.
//!
//! [`definitions`] are what a cluster must know of the platform's objects. [`KubernetesStore`] keeps core's objects as custom resources, so
//! that the Kubernetes API is the platform's database. [`KubernetesScheduler`] runs workloads by the cluster's own controllers, and
//! [`KubernetesIngress`] keeps routes for its proxies to serve.

mod definitions;
mod failure;
mod images;
mod ingress;
mod install;
mod labels;
mod leader;
mod preflight;
mod quantity;
mod scheduler;
mod secrets;
mod store;

pub use definitions::definitions;
pub use images::GivenImages;
pub use ingress::{Gateway, IngressSettings, KubernetesIngress};
pub use install::{Installation, rules};
pub use leader::Candidate;
pub use preflight::preflight;
pub use scheduler::{Egress, GatewaySource, KubernetesScheduler, SchedulerSettings};
pub use secrets::KubernetesSecrets;
pub use store::{GROUP, KubernetesStore};
