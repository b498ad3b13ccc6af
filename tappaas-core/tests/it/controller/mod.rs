//! The controllers over the memory backends, in tokio's paused time.

mod autoscaling;
mod bindings;
mod by_hand;
mod cancel;
mod commands;
mod garbage;
mod guarded;
mod hosts;
mod limits;
mod pending;
mod refusals;
mod rollouts;
mod scaling;
mod settling;
mod tenancy;
mod timing;
mod verbs;
mod volumes;
mod world;
