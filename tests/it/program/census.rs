use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};
use tappaas_core::Digest;

/// What one platform has on this machine outside of its data directory, one line each, and the instances inside of it.
///
/// Everything is told by the data directory, so that other platforms on the machine may come and go.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Census(BTreeSet<String>);

impl Census {
    pub(super) fn take(data: &Path) -> Self {
        let processes = processes(data)
            .into_iter()
            .map(|process| format!("process {}: {}", process.id, process.command));
        let mut found: BTreeSet<_> = processes.collect();
        found.extend(mounts(data));
        found.extend(interfaces(&table(data)));
        control_groups(Path::new("/sys/fs/cgroup"), data, 0, &mut found);
        for folder in ["local/instances", "local/network/subnets", "builds/run"] {
            found.extend(names_in(&data.join(folder)).map(|name| format!("{folder}/{name}")));
        }
        Self(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A process that belongs to a platform.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Process {
    pub(super) id: i32,
    pub(super) command: String,
}

impl Process {
    /// Ends it with `SIGKILL`, which it cannot notice.
    pub(super) fn kill(&self) {
        // It may end by itself between being seen and being killed.
        let _ = kill_process(Pid::from_raw(self.id).unwrap(), Signal::KILL);
    }
}

/// The processes whose command line or control group names the data directory or an instance in it.
pub(super) fn processes(data: &Path) -> Vec<Process> {
    let data_name = data.to_str().unwrap();
    let ids = names_in(Path::new("/proc")).filter_map(|name| name.parse::<i32>().ok());
    let all = ids.filter(|id| *id != std::process::id().cast_signed());
    let ours = all.filter_map(|id| {
        let folder = PathBuf::from(format!("/proc/{id}"));
        let command = fs::read(folder.join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let groups = fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
        let ours = command.contains(data_name) || groups.lines().any(|group| is_group(group, data));
        ours.then(|| Process {
            id,
            command: command.trim_end().to_owned(),
        })
    });
    let mut ours: Vec<_> = ours.collect();
    ours.sort();
    ours
}

/// Whether a control group is that of an instance below `data`: it is named by the instance and the digest of its folder.
fn is_group(path: &str, data: &Path) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((id, mark)) = name.rsplit_once('-') else {
        return false;
    };
    let instance = data.join("local/instances").join(id);
    hex(instance.to_str().unwrap()) == mark
}

/// The table of the packet filter, by which its bridges are known, too.
fn table(data: &Path) -> String {
    let folder = data.join("local/network");
    format!("tappaas-{}", hex(folder.to_str().unwrap()))
}

/// The first four bytes of the SHA-256 of a text.
fn hex(text: &str) -> String {
    let digest = Digest::of(text).to_string();
    let (_, digits) = digest.split_once(':').unwrap();
    digits[..8].to_owned()
}

fn mounts(data: &Path) -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = table
        .lines()
        .filter(|line| line.contains(data.to_str().unwrap()));
    ours.map(|line| format!("mount {line}")).collect()
}

/// The bridges of a platform, and what is plugged into them.
fn interfaces(table: &str) -> BTreeSet<String> {
    let all = Path::new("/sys/class/net");
    let bridges = names_in(all).filter(|name| {
        fs::read_to_string(all.join(name).join("ifalias")).is_ok_and(|alias| alias.contains(table))
    });
    let with_ports = bridges.flat_map(|bridge| {
        let ports: Vec<_> = names_in(&all.join(&bridge).join("brif")).collect();
        ports.into_iter().chain([bridge])
    });
    with_ports.map(|name| format!("interface {name}")).collect()
}

fn control_groups(folder: &Path, data: &Path, depth: usize, found: &mut BTreeSet<String>) {
    // Controllers, slices, services, units, the group of all instances, an instance.
    const DEPTH_MAX: usize = 7;
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let folders = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    for path in folders.map(|entry| entry.path()) {
        if is_group(path.to_str().unwrap_or_default(), data) {
            found.insert(format!("control group {}", path.display()));
        }
        if depth < DEPTH_MAX {
            control_groups(&path, data, depth + 1, found);
        }
    }
}

fn names_in(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}
