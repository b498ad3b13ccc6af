//! Keyed, level-triggered reconcilers: each run reads desired and observed state afresh, plans purely, and executes idempotent steps.

mod drive;
mod queue;
