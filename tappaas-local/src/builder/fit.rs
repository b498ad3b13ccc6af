use std::path::Path;

use tappaas_core::{Error, Result};

use super::BuildLimits;
use crate::archive::display_bytes;

/// What of its disk a machine keeps from builds, whatever their limit says: on a full disk nobody could write down anything.
const DISK_KEPT: u64 = 256 << 20;

/// Refuses to run commands of a build that this machine has no room for.
///
/// # Errors
/// `Exhausted`, with the figures and what to do.
pub(super) fn check(limits: &BuildLimits, disk: &Path) -> Result<()> {
    let memory = machine_memory().unwrap_or(u64::MAX);
    if limits.memory.0 > memory {
        return Err(Error::exhausted(format!(
            "a build may take {} of memory, and this machine has {}: set `memory` in the `limits` of the builder's configuration to less",
            display_bytes(limits.memory.0),
            display_bytes(memory)
        )));
    }
    short_of_disk(disk).map_or(Ok(()), Err)
}

/// Why builds that run have to stop, if it is because the machine's disk is nearly full.
pub(super) fn short_of_disk(disk: &Path) -> Option<Error> {
    let found = rustix::fs::statvfs(disk).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    (free < DISK_KEPT).then(|| {
        Error::exhausted(format!(
            "the disk of {} has {} left, and builds leave {} to the rest of this machine: free some",
            disk.display(),
            display_bytes(free),
            display_bytes(DISK_KEPT)
        ))
    })
}

/// The memory of this machine, if it tells.
pub(super) fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}
