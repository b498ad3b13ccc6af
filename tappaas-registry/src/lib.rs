#![doc = include_str!("../README.md")]

mod blobs;
#[cfg(feature = "client")]
pub mod client;
mod config;
mod copy;
pub mod embedded;
mod error;
mod layout;
mod name;
pub mod oci_layout;
pub mod server;
mod store;

pub use blobs::{Chunks, Writer};
pub use config::{Config, Limits};
pub use copy::copy;
pub use error::{Error, Result};
pub use layout::{Collected, Fault, MediaType};
pub use name::RepositoryName;
pub use store::Store;
