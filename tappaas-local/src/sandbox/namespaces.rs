//! The namespaces that the shim itself enters, so that whatever it starts and restarts is in them, and so that they, with all
//! mounts and links in them, end with its last process.

use std::{fs, path::Path};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags};
use serde::{Deserialize, Serialize};

use crate::{
    fault::{Context, Fault, Result},
    sandbox::{Isolation, Network, Spec, User},
};

/// The ids of a user namespace: `count` ids from `inside` on are the machine's ids from `outside` on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct IdMap {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

impl IdMap {
    /// Writes the map of process `pid`, users and groups alike. A process that maps itself passes `self`.
    pub(crate) fn write(self, pid: &str) -> Result<()> {
        let line = format!("{} {} {}", self.inside, self.outside, self.count);
        for file in ["uid_map", "gid_map"] {
            let path = format!("/proc/{pid}/{file}");
            fs::write(&path, &line)
                .context(|| format!("map the user namespace's ids in {path}"))?;
        }
        Ok(())
    }
}

/// Has somebody outside of the new user namespace write a map that the process may not write itself.
pub(crate) trait Mapper {
    async fn map(&mut self, map: IdMap) -> Result<()>;
}

/// Enters the mount, user and, unless it is done already, network namespace that `spec` asks for.
pub(crate) async fn enter(spec: &Spec, mapper: &mut impl Mapper) -> Result<()> {
    match (spec.isolation, spec.user) {
        (Isolation::None, _) => Ok(()),
        (Isolation::Privileged, User::Id(_)) => {
            separate(CloneFlags::CLONE_NEWNS, "create a mount namespace")?;
            keep_mounts_private()?;
            show_cgroup2()
        }
        (Isolation::Privileged, User::Root { host }) => {
            separate(CloneFlags::CLONE_NEWNS, "create a mount namespace")?;
            keep_mounts_private()?;
            // While this is still root of the machine: inside the user namespace it would need a control group namespace too.
            show_cgroup2()?;
            separate(
                CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS,
                "create a user namespace",
            )?;
            mapper
                .map(IdMap {
                    inside: 0,
                    outside: host,
                    count: User::RANGE,
                })
                .await?;
            become_root()
        }
        (Isolation::Rootless, user) => rootless(user.inside(), &spec.network),
    }
}

/// The same magic as `statfs` tells: `CGROUP2_SUPER_MAGIC`.
const CGROUP2: u64 = 0x6367_7270;
const CGROUPS: &str = "/sys/fs/cgroup";

fn rootless(inside: u32, network: &Network) -> Result<()> {
    let ids = (
        nix::unistd::getuid().as_raw(),
        nix::unistd::getgid().as_raw(),
    );
    let mut flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    if !cgroup2_shown()? {
        flags |= CloneFlags::CLONE_NEWCGROUP;
    }
    if matches!(network, Network::Private { .. }) {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    separate(flags, "create a user namespace")?;
    // Without this the kernel refuses a plain user's group map: dropping a group can give access.
    fs::write("/proc/self/setgroups", "deny").context(|| "give up setgroups".to_owned())?;
    let map = |file: &str, outside| {
        let path = format!("/proc/self/{file}");
        fs::write(&path, format!("{inside} {outside} 1")).context(|| format!("write {path}"))
    };
    map("uid_map", ids.0)?;
    map("gid_map", ids.1)?;
    keep_mounts_private()?;
    show_cgroup2()
}

fn separate(flags: CloneFlags, what: &str) -> Result<()> {
    unshare(flags).context(|| what.to_owned())
}

/// Mounts made here must not show outside; those made outside later may show here.
fn keep_mounts_private() -> Result<()> {
    let flags = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
    rustix::mount::mount_change("/", flags).context(|| "keep mounts private".to_owned())
}

/// Makes `libcontainer` find version 2 of control groups, as the only version, in this mount namespace.
///
/// Its handling of version 1 fails for plain users and creates groups in hierarchies that nobody asked for. Limits are set by
/// [`super::Cgroup`] in any case; all that is left to `libcontainer` is to join one group of version 2, if it may.
fn show_cgroup2() -> Result<()> {
    if cgroup2_shown()? {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("cgroup2", CGROUPS, "cgroup2", flags, None)
        .context(|| format!("mount cgroup2 at {CGROUPS}"))
}

fn cgroup2_shown() -> Result<bool> {
    if !Path::new(CGROUPS).is_dir() {
        return Err(Fault::Unsupported(format!(
            "{CGROUPS} is missing: this system has no control groups"
        )));
    }
    let found = rustix::fs::statfs(CGROUPS).context(|| format!("look at {CGROUPS}"))?;
    Ok(u64::try_from(found.f_type).is_ok_and(|magic| magic == CGROUP2))
}

/// Until now this process is a user whom the map does not know.
fn become_root() -> Result<()> {
    let (user, group) = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    nix::unistd::setgroups(&[]).context(|| "drop supplementary groups".to_owned())?;
    nix::unistd::setresgid(group, group, group)
        .context(|| "become group 0 of the user namespace".to_owned())?;
    nix::unistd::setresuid(user, user, user)
        .context(|| "become user 0 of the user namespace".to_owned())
}
