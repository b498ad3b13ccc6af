#![doc = include_str!("../README.md")]

mod blobs;
#[cfg(feature = "client")]
pub mod client;
mod config;
pub mod embedded;
mod error;
mod layout;
mod name;
pub mod server;
mod store;

pub use blobs::{Chunks, Writer};
pub use config::{Config, Limits};
pub use error::{Error, Result};
pub use layout::{Collected, Fault, MediaType};
pub use name::RepositoryName;
pub use store::Store;
