use std::{fs, path::Path, time::Duration};

use tappaas_core::backend::Usage;

use super::Cgroup;

impl Cgroup {
    /// What the instance uses. What is not counted is 0.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            cpu: self.cpu_time(),
            memory: self.memory_used(),
            pids: number(self.pids.as_deref(), "pids.current"),
        }
    }

    /// How often the kernel killed a process of the instance because the memory limit was reached.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = if self.version_2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        field(self.memory.as_deref(), file, "oom_kill")
    }

    fn cpu_time(&self) -> Duration {
        let folder = self.accounting.as_deref();
        if self.version_2 {
            Duration::from_micros(field(folder, "cpu.stat", "usage_usec"))
        } else {
            Duration::from_nanos(number(folder, "cpuacct.usage"))
        }
    }

    /// Caches that can be dropped at once do not count: no limit is reached because of them.
    fn memory_used(&self) -> u64 {
        let folder = self.memory.as_deref();
        let (all, droppable) = match self.version_2 {
            true => ("memory.current", "inactive_file"),
            false => ("memory.usage_in_bytes", "total_inactive_file"),
        };
        number(folder, all).saturating_sub(field(folder, "memory.stat", droppable))
    }
}

fn read(folder: Option<&Path>, file: &str) -> Option<String> {
    fs::read_to_string(folder?.join(file)).ok()
}

fn number(folder: Option<&Path>, file: &str) -> u64 {
    read(folder, file)
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// The number after `name` in a file of `name number` lines.
fn field(folder: Option<&Path>, file: &str, name: &str) -> u64 {
    let text = read(folder, file).unwrap_or_default();
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}
