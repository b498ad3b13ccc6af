use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::Access;

use crate::fault::{Context, Result};

/// The folder, in each hierarchy, that the groups of instances are in.
const PARENT: &str = "tappaas";
/// The folder of those that have the CPU only while nobody else wants it. It is no part of the other one: a group yields to its
/// siblings alone, and the edge is not in any of ours.
const YIELDING: &str = "tappaas-yielding";

/// What control groups are used for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Controller {
    /// Bytes of memory.
    Memory,
    /// Share of CPU time.
    Cpu,
    /// CPU time used.
    Accounting,
    /// Number of processes.
    Pids,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::Accounting, Self::Pids];

    fn name_1(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Accounting => "cpuacct",
            Self::Pids => "pids",
        }
    }

    fn name_2(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu | Self::Accounting => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// Where this process may create control groups.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Layout {
    /// Controllers of version 1, each with the root of its hierarchy.
    version_1: BTreeMap<Controller, PathBuf>,
    /// Where version 2 is mounted.
    unified_root: Option<PathBuf>,
    /// The folder of version 2 that groups may be created in.
    delegated: Option<PathBuf>,
    /// What version 2 controls there.
    controllers: Vec<String>,
}

impl Layout {
    /// Finds out. A process that may create none gets an empty layout.
    pub(crate) fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::from_tables(&mounts, &own, &|folder| {
            rustix::fs::access(folder, Access::WRITE_OK).is_ok()
                && rustix::fs::access(folder.join("cgroup.procs"), Access::WRITE_OK).is_ok()
        })
    }

    fn from_tables(mounts: &str, own: &str, writable: &dyn Fn(&Path) -> bool) -> Self {
        let mounts: Vec<_> = mounts.lines().filter_map(Mount::parse).collect();
        let version_1: BTreeMap<_, _> = Controller::ALL
            .into_iter()
            .filter_map(|controller| {
                let holds =
                    |mount: &&Mount| mount.kind == "cgroup" && mount.has(controller.name_1());
                let mount = mounts.iter().find(holds)?;
                writable(mount.at).then(|| (controller, mount.at.to_owned()))
            })
            .collect();
        let unified = mounts
            .iter()
            .find(|mount| mount.kind == "cgroup2")
            .map(|mount| mount.at);
        let delegated = unified.and_then(|root| topmost(root, own, writable));
        let listed = delegated
            .as_ref()
            .map(|folder| fs::read_to_string(folder.join("cgroup.controllers")));
        let controllers = match listed {
            Some(Ok(list)) if version_1.is_empty() => {
                list.split_whitespace().map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        Self {
            version_1,
            unified_root: unified.map(Path::to_owned),
            delegated,
            controllers,
        }
    }

    /// Limits are set through version 2.
    pub(crate) fn version_2(&self) -> bool {
        self.version_1.is_empty() && self.delegated.is_some()
    }

    /// Limits of this kind can be set.
    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.folder(controller, "", false).is_some()
    }

    /// The folder whose files limit `controller` for `id`.
    pub(super) fn folder(&self, controller: Controller, id: &str, yields: bool) -> Option<PathBuf> {
        if let Some(root) = self.version_1.get(&controller) {
            return Some(root.join(parent(yields)).join(id));
        }
        let controlled = self
            .controllers
            .iter()
            .any(|name| name == controller.name_2());
        controlled.then(|| self.unified(id, yields)).flatten()
    }

    /// The folder of version 2 for `id`.
    pub(super) fn unified(&self, id: &str, yields: bool) -> Option<PathBuf> {
        self.delegated
            .as_ref()
            .map(|folder| folder.join(parent(yields)).join(id))
    }

    /// Where version 2 is mounted.
    pub(super) fn unified_root(&self) -> Option<&Path> {
        self.unified_root.as_deref()
    }

    /// Creates a group's folder, with its controllers switched on all the way down to it.
    pub(super) fn create(&self, folder: &Path) -> Result<()> {
        // Another instance may remove the common parent, as its last child, between our creating it and using it.
        const ATTEMPTS: usize = 20;
        let mut last = Ok(());
        for _ in 0..ATTEMPTS {
            last = fs::create_dir_all(folder);
            match &last {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => break,
            }
            self.switch_on(folder);
        }
        last.context(|| format!("create the control group {}", folder.display()))?;
        self.switch_on(folder);
        Ok(())
    }

    /// A controller reaches a group only if each group above hands it down. What cannot be switched on shows when a limit is set.
    fn switch_on(&self, folder: &Path) {
        let Some(top) = self.delegated.as_ref().filter(|_| self.version_2()) else {
            return;
        };
        for above in [Some(top.as_path()), folder.parent()].into_iter().flatten() {
            for controller in Controller::ALL {
                fs::write(
                    above.join("cgroup.subtree_control"),
                    format!("+{}", controller.name_2()),
                )
                .ok();
            }
        }
    }
}

fn parent(yields: bool) -> &'static str {
    if yields { YIELDING } else { PARENT }
}

/// The topmost folder, from the hierarchy's root down to this process's own group, in which it may create groups.
fn topmost(root: &Path, own: &str, writable: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut folder = root.to_owned();
    let mut steps = Path::new(own).components().skip(1);
    loop {
        if writable(&folder) {
            return Some(folder);
        }
        folder.push(steps.next()?);
    }
}

/// A line of `mountinfo`.
struct Mount<'a> {
    at: &'a Path,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        Some(Self {
            at: Path::new(before.split(' ').nth(4)?),
            kind: after.next()?,
            options: after.nth(1)?,
        })
    }

    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:27 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 31 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
35 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn under_both_versions_each_controller_has_its_folder_and_killing_goes_through_version_2() {
        let layout = Layout::from_tables(HYBRID, "0::/\n", &|_| true);
        let folder = |controller| layout.folder(controller, "web-1", false).unwrap();
        assert_eq!(
            folder(Controller::Cpu),
            Path::new("/sys/fs/cgroup/cpu,cpuacct/tappaas/web-1")
        );
        assert_eq!(folder(Controller::Accounting), folder(Controller::Cpu));
        assert_eq!(
            folder(Controller::Memory),
            Path::new("/sys/fs/cgroup/memory/tappaas/web-1")
        );
        assert_eq!(
            layout.unified("web-1", false).unwrap(),
            Path::new("/sys/fs/cgroup/unified/tappaas/web-1")
        );
        assert_eq!(
            layout.folder(Controller::Cpu, "build-1", true).unwrap(),
            Path::new("/sys/fs/cgroup/cpu,cpuacct/tappaas-yielding/build-1")
        );
        assert!(!layout.version_2());
    }

    #[test]
    fn a_plain_user_gets_the_topmost_folder_that_is_delegated() {
        let own = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope\n";
        let service = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service";
        let layout = Layout::from_tables(UNIFIED, own, &|folder| folder.starts_with(service));
        assert_eq!(layout.delegated.as_deref(), Some(Path::new(service)));
        assert!(layout.version_2());
    }

    #[test]
    fn a_plain_user_without_delegation_gets_no_groups() {
        for mounts in [HYBRID, UNIFIED] {
            let layout = Layout::from_tables(mounts, "0::/session.scope\n", &|_| false);
            assert!(!layout.has(Controller::Memory) && layout.unified("web-1", false).is_none());
        }
    }
}
