//! Control groups: the limits of an instance, what it uses, and the one sure way to find every process of it.
//!
//! Both versions are supported. Version 1 (and the hybrid of both) needs root. Version 2 needs root, or a plain user to whom a
//! subtree is delegated, as systemd does for `user@UID.service`.

mod layout;
mod reading;

use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

pub(crate) use self::layout::{Controller, Layout};
use crate::{
    fault::{Context, Result},
    sandbox::Limits,
};

/// Which limits hold for an instance.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enforced {
    /// [`Limits::memory`] holds, and memory used is counted.
    pub memory: bool,
    /// [`Limits::cpu_millis`] holds, and CPU time is counted.
    pub cpu: bool,
    /// [`Limits::pids`] holds.
    pub pids: bool,
}

/// The control groups of one instance: one folder under version 2, one for each controller under version 1.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cgroup {
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    accounting: Option<PathBuf>,
    pids: Option<PathBuf>,
    /// The folder of version 2, whose `cgroup.kill` reaches every process.
    unified: Option<PathBuf>,
    unified_root: Option<PathBuf>,
    version_2: bool,
}

impl Cgroup {
    /// Names the groups of `id`, one for each thing that this process may control here.
    pub(crate) fn plan(layout: &Layout, id: &str, yields: bool) -> Self {
        let folder = |controller| layout.folder(controller, id, yields);
        Self {
            memory: folder(Controller::Memory),
            cpu: folder(Controller::Cpu),
            accounting: folder(Controller::Accounting),
            pids: folder(Controller::Pids),
            unified: layout.unified(id, yields),
            unified_root: layout.unified_root().map(Path::to_owned),
            version_2: layout.version_2(),
        }
    }

    /// Creates the groups and sets their limits.
    pub(crate) fn create(&self, layout: &Layout, limits: &Limits) -> Result<()> {
        let made = self
            .folders()
            .into_iter()
            .try_for_each(|path| layout.create(path));
        made.and_then(|()| self.limit(limits))
    }

    /// Which limits hold.
    pub(crate) fn enforced(&self) -> Enforced {
        Enforced {
            memory: self.memory.is_some(),
            cpu: self.cpu.is_some(),
            pids: self.pids.is_some(),
        }
    }

    /// A process inside may look at the limits: there is one folder for all of them.
    pub(crate) fn shows_limits(&self) -> bool {
        self.version_2 && self.memory.is_some()
    }

    /// The group of version 2, as a path below the root of its hierarchy.
    pub(crate) fn below_unified(&self) -> Option<PathBuf> {
        let folder = self.unified.as_ref()?;
        let root = self.unified_root.as_ref()?;
        Some(Path::new("/").join(folder.strip_prefix(root).ok()?))
    }

    /// Opens the files through which a process joins by writing `0`. The kernel checks the rights of the opener, not of the writer.
    pub(crate) fn doors(&self) -> Result<Vec<OwnedFd>> {
        let open = |folder: &Path| {
            let path = folder.join("cgroup.procs");
            let file = fs::OpenOptions::new().write(true).open(&path);
            Ok(file.context(|| format!("open {}", path.display()))?.into())
        };
        self.folders().into_iter().map(open).collect()
    }

    /// Keeps the groups within reach however mounts change, for as long as the files are open: the paths of the result lead there.
    pub(crate) fn pin(&self) -> Result<(Self, Vec<OwnedFd>)> {
        let mut pins: Vec<(PathBuf, OwnedFd)> = Vec::new();
        let mut pinned = self.clone();
        let all = [
            &mut pinned.memory,
            &mut pinned.cpu,
            &mut pinned.accounting,
            &mut pinned.pids,
            &mut pinned.unified,
        ];
        for path in all.into_iter().flatten() {
            // The folder above the common parent, so that both can be removed.
            let Some(above) = path.ancestors().nth(2).map(Path::to_owned) else {
                continue;
            };
            let index = match pins.iter().position(|(root, _)| *root == above) {
                Some(index) => index,
                None => {
                    let file =
                        fs::File::open(&above).context(|| format!("open {}", above.display()))?;
                    pins.push((above.clone(), file.into()));
                    pins.len() - 1
                }
            };
            let below = path.strip_prefix(&above).unwrap_or(path).to_owned();
            *path = Path::new("/proc/self/fd")
                .join(pins[index].1.as_raw_fd().to_string())
                .join(below);
        }
        Ok((pinned, pins.into_iter().map(|(_, file)| file).collect()))
    }

    /// Every process in the groups.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let mut found: Vec<_> = self
            .folders()
            .into_iter()
            .filter_map(|folder| fs::read_to_string(folder.join("cgroup.procs")).ok())
            .flat_map(|list| {
                list.lines()
                    .filter_map(|line| line.parse().ok())
                    .collect::<Vec<i32>>()
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(Pid::from_raw).collect()
    }

    /// Leaves the CPU to whoever else wants it: wholly, or all but the least that counts where the kernel cannot do that (before Linux
    /// 5.15); or all but a tenth of what an equal would have. This is about all that yield together, for what others are weighed against
    /// is their common parent.
    pub(crate) fn yield_cpu(&self, wholly: bool) -> Result<()> {
        let Some(parent) = self.cpu.as_deref().and_then(Path::parent) else {
            return Ok(());
        };
        let idles = parent.join("cpu.idle").exists();
        if idles {
            write(parent, "cpu.idle", if wholly { "1" } else { "0" })?;
        }
        match (wholly, self.version_2) {
            // What is idle has no weight.
            (true, _) if idles => Ok(()),
            (true, true) => write(parent, "cpu.weight", "1"),
            (true, false) => write(parent, "cpu.shares", "2"),
            (false, true) => write(parent, "cpu.weight", "10"),
            (false, false) => write(parent, "cpu.shares", "102"),
        }
    }

    /// Sends SIGKILL to every process in the groups.
    pub(crate) fn kill(&self) {
        if let Some(folder) = &self.unified {
            fs::write(folder.join("cgroup.kill"), "1").ok();
        }
        for pid in self.processes() {
            rustix::process::kill_process(pid, Signal::KILL).ok();
        }
    }

    /// Kills what is left inside and removes the groups, waiting at most `patience` for the last process to go.
    pub(crate) async fn remove(&self, patience: Duration) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(2);
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match self.remove_now() {
                Ok(()) => return Ok(()),
                Err(error) if tokio::time::Instant::now() >= deadline => {
                    return Err(error).context(|| "remove the control group".to_owned());
                }
                Err(_) => self.kill(),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn remove_now(&self) -> io::Result<()> {
        for folder in self.folders() {
            match fs::remove_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // The parent goes with its last child; while others live this fails, as it should.
            folder.parent().map(fs::remove_dir);
        }
        Ok(())
    }

    fn folders(&self) -> Vec<&Path> {
        let all = [
            &self.memory,
            &self.cpu,
            &self.accounting,
            &self.pids,
            &self.unified,
        ];
        let mut folders: Vec<_> = all.into_iter().flatten().map(PathBuf::as_path).collect();
        folders.sort_unstable();
        folders.dedup();
        folders
    }

    fn limit(&self, limits: &Limits) -> Result<()> {
        if let (Some(folder), Some(bytes)) = (&self.memory, limits.memory) {
            self.limit_memory(folder, bytes)?;
        }
        if let (Some(folder), Some(millis)) = (&self.cpu, limits.cpu_millis) {
            // In microseconds of CPU time each 100 ms. The kernel's smallest quota is 1 ms.
            let quota = (u64::from(millis) * 100).max(1_000);
            if self.version_2 {
                write(folder, "cpu.max", &format!("{quota} 100000"))?;
            } else {
                write(folder, "cpu.cfs_period_us", "100000")?;
                write(folder, "cpu.cfs_quota_us", &quota.to_string())?;
            }
        }
        if let (Some(folder), Some(pids)) = (&self.pids, limits.pids) {
            write(folder, "pids.max", &pids.to_string())?;
        }
        match limits.yields {
            true => self.yield_cpu(true),
            false => Ok(()),
        }
    }

    /// Swap counts as memory: a limit that swaps instead of holding slows the whole machine down.
    fn limit_memory(&self, folder: &Path, bytes: u64) -> Result<()> {
        let bytes = bytes.to_string();
        if self.version_2 {
            write(folder, "memory.max", &bytes)?;
            write_if_there(folder, "memory.swap.max", "0")?;
            // All of the instance goes at once, instead of limping on without one of its processes.
            return write_if_there(folder, "memory.oom.group", "1");
        }
        write(folder, "memory.limit_in_bytes", &bytes)?;
        write_if_there(folder, "memory.memsw.limit_in_bytes", &bytes)
    }
}

fn write(folder: &Path, file: &str, value: &str) -> Result<()> {
    let path = folder.join(file);
    fs::write(&path, value).context(|| format!("write {value} to {}", path.display()))
}

fn write_if_there(folder: &Path, file: &str, value: &str) -> Result<()> {
    if folder.join(file).exists() {
        write(folder, file, value)
    } else {
        Ok(())
    }
}
