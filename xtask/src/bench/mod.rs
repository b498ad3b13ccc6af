//! `cargo xtask bench`: figures of ours beside the peers', from the same machine in the same run.
//!
//! A [`Benchmark`](benchmarks::Benchmark) measures ours and its peers in turn, several rounds long, so that what else the
//! machine does falls on both. It answers [`Figure`](figure::Figure)s: all samples, and the goal. Nothing here fails
//! because of a time: a goal that is missed is shown as missed. A benchmark that cannot run fails.

mod benchmarks;
mod command;
mod deploy;
mod figure;
mod kubernetes;
mod machine;
mod neighbours;
mod program;
mod proxy;
mod rebuild;
mod render;
mod route;
mod server;
mod socket;
mod start;
mod store;

pub(crate) use benchmarks::ALL;
pub(crate) use command::run;
