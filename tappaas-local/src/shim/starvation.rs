use std::{fs, time::Duration};

use rustix::process::Pid;

use crate::sandbox::Cgroup;

/// How long something that yields is watched before it is judged.
const LOOK: Duration = Duration::from_secs(2);
/// It starves if it wants to run and had less of one core than one part of so many.
const PARTS: u32 = 20;
/// How long what starves has a share.
const SHARE: Duration = Duration::from_secs(10);

/// Gives what yields the CPU a small share of it for a while, whenever others leave it next to nothing. Otherwise an application that
/// never rests could keep every build from ending, and so the one, too, that would mend it.
pub(super) async fn prevent(cgroup: Cgroup) {
    loop {
        let before = cgroup.usage().cpu;
        tokio::time::sleep(LOOK).await;
        let used = cgroup.usage().cpu.saturating_sub(before);
        if used * PARTS < LOOK && cgroup.processes().into_iter().any(is_runnable) {
            // A control group that cannot be changed any more is about to go.
            cgroup.yield_cpu(false).ok();
            tokio::time::sleep(SHARE).await;
            cgroup.yield_cpu(true).ok();
        }
    }
}

/// Whether a process runs or waits for a core, and for nothing else.
fn is_runnable(process: Pid) -> bool {
    let path = format!("/proc/{}/stat", process.as_raw_nonzero());
    fs::read_to_string(path).is_ok_and(|stat| state(&stat) == Some("R"))
}

/// The state follows the name, which is in parentheses and may itself hold any character.
fn state(stat: &str) -> Option<&str> {
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_follows_a_name_of_any_characters() {
        assert_eq!(state("12 (cc) R 1 12"), Some("R"));
        assert_eq!(state("12 (a) R b) S 1 12"), Some("S"));
        assert_eq!(state(""), None);
    }
}
