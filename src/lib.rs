#![doc = include_str!("../README.md")]

#[cfg(feature = "operator")]
mod operator;
#[cfg(feature = "local")]
mod package;
#[cfg(feature = "machine")]
mod server;
#[cfg(any(feature = "machine", feature = "operator"))]
mod system;

#[cfg(feature = "operator")]
pub use operator::{Operator, OperatorConfig};
#[cfg(feature = "local")]
pub use package::Package;
#[cfg(feature = "machine")]
pub use server::{
    IngressConfig, RegistryConfig, SchedulerConfig, Server, ServerConfig, StoreConfig, helper_main,
};
#[cfg(any(feature = "machine", feature = "operator"))]
pub use system::{RandomIds, SystemClock};
pub use tappaas_core as core;
pub use tappaas_core::{
    controller::Settings,
    platform::{Accepted, Backends, Deployment, Platform},
};
#[cfg(feature = "etcd")]
pub use tappaas_etcd as etcd;
#[cfg(feature = "k8s")]
pub use tappaas_k8s as k8s;
#[cfg(feature = "local")]
pub use tappaas_local as local;
#[cfg(feature = "registry")]
pub use tappaas_registry as registry;
#[cfg(feature = "store")]
pub use tappaas_store as store;
#[cfg(feature = "tls")]
pub use tappaas_tls as tls;
