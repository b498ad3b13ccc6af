//! The API over the in-memory backends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod bounds;
mod config;
mod openapi;
mod problems;
mod releases;
mod routes;
#[cfg(feature = "client")]
mod socket;
mod sources;
mod world;
