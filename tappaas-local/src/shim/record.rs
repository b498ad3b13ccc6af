use std::{fs, io, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;

use crate::{instance::Status, sandbox::Cgroup, watched::watch};

/// What is noted of an instance in its folder, for whoever comes later: enough to find it again, and to leave no trace of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The version of the protocol that the shim speaks.
    pub(crate) version: u32,
    pub(crate) id: String,
    /// The boot of the machine that all else belongs to.
    pub(crate) boot: String,
    pub(crate) shim: Identity,
    /// The first process inside.
    pub(crate) process: Option<Identity>,
    pub(crate) cgroup: Cgroup,
    /// The machine's end of the instance's network link.
    pub(crate) link: Option<String>,
    /// How it was when the shim had nothing left to do.
    pub(crate) ended: Option<Status>,
}

impl Record {
    const FILE: &str = "instance.json";

    /// Writes the record whole or not at all. It is not synced: after a power cut the boot differs, and all of it is void.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let (draft, file) = (dir.join("instance.json.new"), dir.join(Self::FILE));
        fs::write(&draft, serde_json::to_vec(self).map_err(io::Error::other)?)?;
        fs::rename(draft, file)
    }

    /// Reads it. One that cannot be understood counts as none: it is of an earlier boot, cut short with the power.
    pub(crate) fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(dir.join(Self::FILE)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A process, told from any later one with the same id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Clock ticks between boot and its start.
    pub(crate) start: u64,
}

impl Identity {
    pub(crate) fn of(pid: Pid) -> io::Result<Self> {
        let pid = pid.as_raw_nonzero().get();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start = start_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pid, start })
    }

    /// The process, if it is still there. A zombie is not.
    pub(crate) fn alive(self) -> Option<Pid> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let (_, after_name) = stat.rsplit_once(") ")?;
        let ended = after_name.starts_with(['Z', 'X']);
        (start_ticks(&stat) == Some(self.start) && !ended)
            .then(|| Pid::from_raw(self.pid))
            .flatten()
    }

    /// Refers to it, also once another process has its id. `None`: it is dead.
    pub(crate) fn handle(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = self.alive() else {
            return Ok(None);
        };
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            // Another process may have got its id between the two looks.
            Ok(handle) => Ok(self.alive().map(|_| handle)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns once it is dead.
    pub(crate) async fn gone(self) {
        const PERIOD: Duration = Duration::from_millis(100);
        loop {
            match self.handle() {
                Ok(None) => return,
                Ok(Some(handle)) => {
                    if let Ok(watched) = watch(handle, Interest::READABLE)
                        && watched.readable().await.is_ok()
                    {
                        return;
                    }
                }
                // There may be no room for one more file now: that says nothing about the process.
                Err(_) => {}
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// The 22nd field; the second one is a name in parentheses that may itself hold spaces and parentheses.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(19)?.parse().ok()
}

/// Tells this boot of the machine from any other.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_another_one_with_its_id() {
        let own = Identity::of(rustix::process::getpid()).unwrap();
        assert!(own.alive().is_some());
        let other = Identity {
            start: own.start + 1,
            ..own
        };
        assert!(other.alive().is_none());
    }

    #[test]
    fn the_start_is_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1";
        assert_eq!(start_ticks(stat), Some(12_345));
    }
}
