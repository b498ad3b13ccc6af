//! Which node takes which instance. Pure and deterministic.

mod types;

pub use types::{Capacity, Constraints, Effect, Offer, Spread, Taint, Toleration};
