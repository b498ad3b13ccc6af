//! The routing state that requests read without a lock: the compiled table, the seats of endpoints, the counters.

mod balance;
mod health;
mod router;
mod seat;
mod stats;
mod swap;

pub(crate) use balance::{Pick, pick};
pub(crate) use health::Health;
pub(crate) use router::{Forward, Found, Handling, Redirect, RouteState, Router};
pub(crate) use seat::{Seat, Ticket};
pub(crate) use stats::{BOUNDS_US, RouteStats, Snapshot};
pub(crate) use swap::Plane;
