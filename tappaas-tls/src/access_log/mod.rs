//! The access log: a bounded queue in memory, and a thread that moves it to a file.

mod line;
mod queue;
mod rotated;

pub(crate) use line::Line;
pub(crate) use queue::AccessLog;
