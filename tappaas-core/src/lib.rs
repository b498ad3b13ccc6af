//! The TAPPaaS model: objects, backend traits, controllers, placement and in-memory reference backends.
//!
//! No network, no disk, no clock of its own: what this crate needs of the world it takes through the traits in [`backend`],
//! [`Store`], [`Durable`], [`Clock`] and [`Ids`].

mod digest;
pub mod durable;
mod error;
mod name;
pub mod object;
pub mod store;
mod time;

pub mod backend;
pub mod client;
pub mod controller;
pub mod manifest;
pub mod memory;
#[cfg(feature = "mock")]
pub mod mock;
pub mod model;
pub mod placement;
pub mod platform;

pub use digest::Digest;
pub use durable::{Batch, Check, Durable, Row, Write};
pub use error::{Chain, Error, ErrorKind, Result};
pub use name::Name;
pub use object::{Key, Kind, Metadata, Object, Owner, Revision, Scope};
pub use store::{Cursor, Event, ListRequest, Page, Precondition, Store};
pub use time::{Clock, Ids, Timestamp};
