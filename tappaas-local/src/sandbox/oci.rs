//! Translates a [`Spec`] into what `libcontainer` reads: the profile that Kubernetes calls *restricted*.

use std::path::Path;

use libcontainer::oci_spec::{
    OciSpecError,
    runtime::{
        Capability, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder,
        LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder, PosixRlimit,
        PosixRlimitBuilder, PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec as OciSpec,
        SpecBuilder, UserBuilder,
    },
};

use crate::sandbox::{Bind, Isolation, Spec, User};

type Result<T> = std::result::Result<T, OciSpecError>;

/// Returns the container of `spec` on the root file system mounted at `root`.
///
/// `cgroup` is the group of version 2 to join, as a path below the root of that hierarchy; with `limits_shown` its files are seen
/// inside, where runtimes look for the limits that they size their heaps and thread pools by. Neither the environment nor the
/// system call filter is in the result: both come from [`super::executor::Launch`].
pub(crate) fn container(
    spec: &Spec,
    root: &Path,
    cgroup: Option<&Path>,
    limits_shown: bool,
) -> Result<OciSpec> {
    let namespaces = [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ];
    let namespaces = namespaces.map(|kind| LinuxNamespaceBuilder::default().typ(kind).build());
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces.into_iter().collect::<Result<Vec<_>>>()?)
        .masked_paths(MASKED.map(str::to_owned).to_vec())
        .readonly_paths(READ_ONLY.map(str::to_owned).to_vec())
        .cgroups_path(cgroup.map_or_else(|| "/tappaas/none".into(), Path::to_owned))
        .build()?;
    // Limits are set elsewhere; without resources libcontainer does not try.
    linux.set_resources(None);
    let mut oci = SpecBuilder::default()
        .version("1.0.2")
        .hostname(&spec.hostname)
        .root(
            RootBuilder::default()
                .path(root)
                .readonly(spec.root.writable.is_none())
                .build()?,
        )
        .process(process(spec, &spec.command, &spec.workdir, false)?)
        .mounts(mounts(spec, limits_shown)?)
        .linux(linux)
        .build()?;
    oci.set_hooks(None);
    Ok(oci)
}

/// Returns a process of the container: its first one, or one that joins later.
pub(crate) fn process(
    spec: &Spec,
    command: &[String],
    workdir: &Path,
    terminal: bool,
) -> Result<Process> {
    let id = spec.user.inside();
    let mut user = UserBuilder::default().uid(id).gid(id).umask(0o022u32);
    if spec.isolation == Isolation::Privileged {
        // Otherwise the groups of whoever runs the shim would stay.
        user = user.additional_gids(vec![id]);
    }
    let mut process = ProcessBuilder::default()
        .args(command.to_vec())
        .cwd(workdir)
        .terminal(terminal)
        .user(user.build()?)
        .no_new_privileges(true)
        .capabilities(capabilities(spec.user)?)
        .rlimits(vec![no_core_dumps()?])
        .build()?;
    process.set_env(None);
    Ok(process)
}

/// A dump would hold the environment, and land wherever the machine's `core_pattern` says.
fn no_core_dumps() -> Result<PosixRlimit> {
    PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitCore)
        .soft(0u64)
        .hard(0u64)
        .build()
}

/// None, or for root of a user namespace what images that start as root use to give it up: over ids of that namespace alone.
fn capabilities(user: User) -> Result<LinuxCapabilities> {
    let held = match user {
        User::Id(_) => [].into(),
        User::Root { .. } => [
            Capability::Chown,
            Capability::DacOverride,
            Capability::Fowner,
            Capability::Fsetid,
            Capability::Kill,
            Capability::Setgid,
            Capability::Setuid,
        ]
        .into(),
    };
    let held: std::collections::HashSet<_> = held;
    LinuxCapabilitiesBuilder::default()
        .bounding(held.clone())
        .effective(held.clone())
        .permitted(held)
        .inheritable([])
        .ambient([])
        .build()
}

fn mounts(spec: &Spec, limits_shown: bool) -> Result<Vec<Mount>> {
    let plain = ["nosuid", "noexec", "nodev"];
    let sized = |bytes: u64| format!("size={bytes}");
    let mut mounts = vec![
        mount("/proc", "proc", "proc", plain)?,
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            ["nosuid", "noexec", "mode=555", "size=64k"],
        )?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            [
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
            ],
        )?,
        mount("/dev/mqueue", "mqueue", "mqueue", plain)?,
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            ["nosuid", "noexec", "nodev", "mode=1777", &sized(SHM_BYTES)],
        )?,
        mount(
            "/tmp",
            "tmpfs",
            "tmpfs",
            ["nosuid", "nodev", "mode=1777", &sized(spec.tmp_bytes)],
        )?,
    ];
    if spec.isolation == Isolation::Privileged && matches!(spec.user, User::Id(_)) {
        // Inside a user namespace the kernel allows it only together with a network namespace made there.
        mounts.push(mount(
            "/sys",
            "sysfs",
            "sysfs",
            ["nosuid", "noexec", "nodev", "ro"],
        )?);
    }
    if limits_shown {
        mounts.push(mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            ["nosuid", "noexec", "nodev", "ro"],
        )?);
    }
    for bind in &spec.binds {
        mounts.push(bind_mount(bind)?);
    }
    Ok(mounts)
}

/// Bounded like Docker's and containerd's.
const SHM_BYTES: u64 = 64 << 20;

fn bind_mount(bind: &Bind) -> Result<Mount> {
    let access = if bind.read_only {
        ["ro", "rro"]
    } else {
        ["rw", "rw"]
    };
    let options = ["rbind", "rprivate", "nosuid", "nodev", access[0], access[1]];
    MountBuilder::default()
        .destination(&bind.target)
        .typ("bind")
        .source(&bind.source)
        .options(options.map(str::to_owned).to_vec())
        .build()
}

fn mount<const N: usize>(at: &str, kind: &str, source: &str, options: [&str; N]) -> Result<Mount> {
    MountBuilder::default()
        .destination(at)
        .typ(kind)
        .source(source)
        .options(options.map(str::to_owned).to_vec())
        .build()
}

/// What tells about the machine or its kernel, and is of no use to an application.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
