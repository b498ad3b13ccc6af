//! Machines and ranges of a test's own.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use tappaas_local::{NetworkSettings, Range};

/// A machine of its own as far as networks go. There networks alone can be made, no instances.
pub(super) fn on_a_machine_of_its_own(work: impl AsyncFnOnce() + Send + 'static) {
    let checked = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        mount("none", "/sys", "sysfs", MountFlags::empty(), None).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(work());
    });
    checked.join().unwrap();
}

/// Others may test on this machine too, in ranges of their own.
pub(super) fn settings() -> NetworkSettings {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let place = std::process::id().wrapping_mul(31).wrapping_add(number) % 128;
    NetworkSettings {
        range: Range {
            base: Ipv4Addr::new(10, 64 + u8::try_from(place).unwrap(), 0, 0),
            prefix: 16,
            subnet_prefix: 28,
        },
        ..NetworkSettings::default()
    }
}
