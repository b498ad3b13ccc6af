//! The contracts of the backend traits as code: one function for each sentence, and a macro that runs them all.

mod macros;
mod names;
mod verdict;
mod waiting;

pub mod builder;
pub mod durable;
pub mod ingress;
pub mod registry;
pub mod scheduler;
pub mod secrets;
pub mod store;
pub mod switch;
pub mod volumes;

pub use verdict::{Failure, Verdict};
pub use waiting::{PATIENCE, pass_over, stays, until};

use names::{application_key, name};
