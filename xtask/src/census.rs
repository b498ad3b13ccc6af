use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::waiting::within;

/// The kernel takes network namespaces and their interfaces down in its own time.
const CLEAN_MAX: Duration = Duration::from_secs(10);

/// What a platform can leave behind on a machine, one line each, so that two counts can be compared.
///
/// Only what carries a trace of the platform is counted, apart from network interfaces and named
/// namespaces: other programs come and go while this one looks.
#[derive(Debug)]
pub(crate) struct Census(BTreeSet<String>);

/// Part of the name of every control group and mounted folder of a platform. Not looked for in
/// command lines: a compiler at work on this project has it there too.
const NAME: &str = "tappaas";
/// Of clusters for tests, which other checkouts start and stop as they like: whoever starts one sees to its own.
const TESTBEDS: [&str; 2] = ["tappaas-testbed-", "tptestbed"];

impl Census {
    /// Counts now. `traces` are paths of which one is in the command line of each helper process.
    pub(crate) fn take(traces: &[&str]) -> Self {
        let mut found = BTreeSet::new();
        found.extend(processes(traces));
        found.extend(mounts(traces));
        control_groups(Path::new("/sys/fs/cgroup"), 0, &mut found);
        found.extend(names_in("/sys/class/net").map(|name| format!("network interface {name}")));
        found.extend(names_in("/run/netns").map(|name| format!("network namespace {name}")));
        found.retain(|line| !mentions(line, &TESTBEDS));
        Self(found)
    }

    /// Waits until nothing is here that was not there before.
    pub(crate) fn nothing_since(&self, traces: &[&str]) -> Result {
        let mut left = Vec::new();
        let clean = within(CLEAN_MAX, || {
            left = Self::take(traces).since(self);
            Ok(left.is_empty())
        })?;
        match clean {
            true => Ok(()),
            false => Err(format!("left behind:\n  {}", left.join("\n  ")).into()),
        }
    }

    /// What is here and was not there before.
    fn since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

fn processes(traces: &[&str]) -> impl Iterator<Item = String> {
    names_in("/proc")
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|pid| {
            let folder = Path::new("/proc").join(&pid);
            let own = fs::read(folder.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&own).replace('\0', " ");
            let group = fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
            let grouped = group.contains(NAME) && !mentions(&group, &TESTBEDS);
            let ours = mentions(&command, traces) || grouped;
            ours.then(|| format!("process {pid}: {}", command.trim_end()))
        })
}

fn mounts(traces: &[&str]) -> impl Iterator<Item = String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let ours = |line: &&str| line.contains(NAME) || mentions(line, traces);
    let ours: Vec<_> = table.lines().filter(ours).map(mount_point).collect();
    ours.into_iter()
}

fn mount_point(line: &str) -> String {
    format!("mount {}", line.split(' ').nth(4).unwrap_or(line))
}

fn control_groups(folder: &Path, depth: usize, found: &mut BTreeSet<String>) {
    // Controllers, slices, services, units: a platform's own group is never deeper than this.
    const DEPTH_MAX: usize = 6;
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains(NAME) {
            found.insert(format!("control group {}", path.display()));
        }
        if depth < DEPTH_MAX {
            control_groups(&path, depth + 1, found);
        }
    }
}

fn names_in(folder: &str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

fn mentions(text: &str, traces: &[&str]) -> bool {
    traces.iter().any(|trace| text.contains(trace))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_left_running_is_found_and_gone_once_it_ended() {
        let trace = format!("census-of-{}", std::process::id());
        let before = Census::take(&[&trace]);
        // `cat -` waits for its input, and carries the trace as an argument it never reaches.
        let mut left = Command::new("cat")
            .args(["-", &trace])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A process that has just been started does not show its arguments yet.
        let mut found = Vec::new();
        let shows = within(CLEAN_MAX, || {
            found = Census::take(&[&trace]).since(&before);
            Ok(!found.is_empty())
        });
        drop(left.stdin.take());
        left.wait().unwrap();
        assert!(shows.unwrap());
        assert_eq!(found, [format!("process {}: cat - {trace}", left.id())]);
        assert!(Census::take(&[&trace]).since(&before).is_empty());
    }

    #[test]
    fn a_mount_is_named_by_the_place_where_it_is() {
        let line = "36 35 98:0 /mnt1 /data/tappaas/layers rw,noatime - ext3 /dev/root rw";
        assert_eq!(mount_point(line), "mount /data/tappaas/layers");
    }
}
