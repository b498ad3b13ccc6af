use std::fs;

use rustix::process::{Pid, Signal, getpid};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

/// The process has said what to do on a signal: it handles or ignores it.
pub(super) fn handles(pid: Pid, signal: Signal) -> bool {
    let bit = 1 << (signal.as_raw() - 1);
    (mask(pid, "SigCgt:") | mask(pid, "SigIgn:")) & bit != 0
}

/// Handles what this process ignores, for as long as the answer is kept. Whatever it executes would go on ignoring that, and a shell could
/// not even be told otherwise; handlers are not inherited.
///
/// Rust ignores SIGPIPE. Other signals are ignored by who was started so, as a script's background commands are.
pub(super) fn heed_ignored() -> Vec<SignalStream> {
    let ignored = mask(getpid(), "SigIgn:");
    let numbers = (1..=64).filter(|number| ignored >> (number - 1) & 1 == 1);
    // What a handler cannot be for is a fault of the process itself, and ends it whether it is ignored or not.
    let heeded = numbers.filter_map(|number| signal(SignalKind::from_raw(number)).ok());
    heeded.collect()
}

/// The signals that a line of a process's status lists.
fn mask(pid: Pid, name: &str) -> u64 {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let status = fs::read_to_string(path).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
