//! Which node takes which instance. Pure and deterministic.

mod obstacle;
mod place;
mod preempt;
mod site;
mod types;

pub use place::{Instance, Occupant, Plan, place};
pub use types::{Capacity, Constraints, Effect, Offer, Spread, Taint, Toleration};
