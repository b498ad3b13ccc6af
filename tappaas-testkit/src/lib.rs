//! Tests for whoever writes a TAPPaaS backend: a conformance suite per trait, and faults to try callers with.
//!
//! A suite is one macro line in an integration test of the backend's crate. It expands to one test for each sentence of the trait's
//! contract, each with a fresh backend from the expression given:
//!
//! ```
//! # mod shown {
//! use tappaas_testkit::Memory;
//!
//! tappaas_testkit::scheduler_conformance!(#[tokio::test(start_paused = true)] Memory::new());
//! # }
//! ```
//!
//! The expression is the backend's *fixture*, which makes what the suite cannot know: images for the programs that the suite wants
//! to run, a way to send a request. [`Memory`] is the fixture of core's in-memory backends, and an example for others.

mod clock;
pub mod conformance;
pub mod faulty;
mod memory;
mod program;

pub use clock::ManualClock;
pub use memory::Memory;
pub use program::Program;
