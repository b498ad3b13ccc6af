//! Instances as a server sees them: started, adopted after a restart of the server, asked, stopped, and cleaned up after.

mod client;
mod exec;
mod log;
mod pasta;
mod reap;
mod start;
mod status;

pub(crate) use self::reap::MARGIN;
pub use self::{
    client::{Adopted, Instance},
    exec::{Execution, Streams, Terminal},
    log::{Line, LogReader, Stream},
    reap::{end, reap},
    start::run_to_completion,
    status::{Phase, Status},
};
