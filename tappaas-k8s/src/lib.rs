//! TAPPaaS on Kubernetes.
//!
//! [`definitions`] are what a cluster must know of the platform's objects. [`KubernetesStore`] keeps core's objects as custom resources, so
//! that the Kubernetes API is the platform's database. [`KubernetesScheduler`] runs workloads by the cluster's own controllers, and
//! [`KubernetesIngress`] keeps routes for its proxies to serve. [`KubernetesVolumes`] keeps what instances wrote.

mod access;
mod definitions;
mod events;
mod failure;
mod images;
mod ingress;
mod install;
mod labels;
mod leader;
mod platform;
mod preflight;
mod quantity;
mod requests;
mod restricted;
mod scheduler;
mod secrets;
mod store;
mod volumes;

pub use access::Access;
pub use definitions::definitions;
pub use events::EventReporter;
pub use images::{GivenImages, NoRegistry};
pub use ingress::{Gateway, IngressSettings, KubernetesIngress};
pub use install::{Installation, rules};
pub use leader::Candidate;
pub use platform::PlatformId;
pub use preflight::{Needs, preflight};
pub use requests::Requests;
pub use scheduler::{Egress, GatewaySource, KubernetesScheduler, RuntimeNodes, SchedulerSettings};
pub use secrets::KubernetesSecrets;
pub use store::{GROUP, KubernetesStore};
pub use volumes::{KubernetesVolumes, VolumeSettings};

/// Clients for clusters, as [`Access`] makes them.
pub use kube::Client;
