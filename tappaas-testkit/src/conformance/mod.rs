//! The contracts of the backend traits as code: one function for each sentence, and a macro that runs them all.

pub mod durable;
pub mod store;
mod verdict;

pub use verdict::Verdict;
