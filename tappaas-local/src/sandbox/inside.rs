use std::{ffi::OsString, fs, time::Duration};

use rustix::process::{Pid, WaitOptions, waitpid};
use tappaas_core::backend::Usage;

/// Every process of the sandbox whose first process is `first`, that one included: all in its process namespace.
pub(crate) fn inside_of(first: Pid) -> Vec<Pid> {
    let Some(namespace) = namespace(&first.as_raw_nonzero().to_string()) else {
        return Vec::new();
    };
    let names = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    let pids = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    pids.filter(|pid| self::namespace(pid).as_ref() == Some(&namespace))
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

/// The children of this process.
pub(crate) fn children() -> Vec<Pid> {
    let list = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

/// Collects children that ended, other than those that are `waited` for by their ids. Says whether any other is left.
pub(crate) fn collect_children(waited: &[Pid]) -> bool {
    let others = children().into_iter().filter(|pid| !waited.contains(pid));
    others.fold(false, |left, pid| {
        let ended = matches!(
            waitpid(Some(pid), WaitOptions::NOHANG),
            Ok(Some(_)) | Err(_)
        );
        left || !ended
    })
}

/// What these processes use together, as far as it can be told without control groups: shared memory counts several times.
pub(crate) fn usage_of(processes: &[Pid]) -> Usage {
    processes
        .iter()
        .filter_map(|pid| usage(*pid))
        .fold(Usage::default(), |sum, one| Usage {
            cpu: sum.cpu + one.cpu,
            memory: sum.memory + one.memory,
            pids: sum.pids + one.pids,
        })
}

fn namespace(pid: &str) -> Option<OsString> {
    Some(
        fs::read_link(format!("/proc/{pid}/ns/pid"))
            .ok()?
            .into_os_string(),
    )
}

fn usage(pid: Pid) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    // Fields are numbered from 1, and the first two are before the name's end.
    let field = |number: usize| {
        after_name
            .split(' ')
            .nth(number - 3)
            .and_then(|text| text.parse::<u64>().ok())
    };
    let ticks = field(14)? + field(15)?;
    Some(Usage {
        cpu: Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1)),
        memory: field(24)? * rustix::param::page_size() as u64,
        pids: field(20)?,
    })
}
