//! Which system calls a sandboxed process may make.
//!
//! Two filters are stacked, and the kernel obeys the stricter answer. The first one lists what is allowed and answers everything
//! else as if the kernel were too old to know it (`ENOSYS`), so that programs fall back as they do on old kernels. The second one
//! names what is known and refused, and answers `EPERM`, as programs expect of a container.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// A compiled system call filter.
#[derive(Clone)]
pub(crate) struct Filter {
    programs: [BpfProgram; 2],
}

impl Filter {
    /// Compiles the filter for this machine's architecture.
    pub(crate) fn compile() -> Result<Self, seccompiler::Error> {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
        let allow =
            SeccompFilter::new(allowed()?, errno(libc::ENOSYS), SeccompAction::Allow, arch)?;
        let refuse =
            SeccompFilter::new(refused()?, SeccompAction::Allow, errno(libc::EPERM), arch)?;
        Ok(Self {
            programs: [allow.try_into()?, refuse.try_into()?],
        })
    }

    /// Binds the calling process, and every later child of it, to the filter. Sets no-new-privileges too.
    ///
    /// Of two equally strict answers the kernel takes that of the filter installed last: the refusing one.
    pub(crate) fn install(&self) -> Result<(), seccompiler::Error> {
        self.programs
            .iter()
            .try_for_each(|program| seccompiler::apply_filter(program))
    }
}

/// The `clone` flags that make namespaces.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// The execution domains of ordinary programs, with and without address space randomisation; the last one asks.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `TIOCSTI` and `TIOCLINUX`, which push characters into a terminal's input as if its owner had typed them.
const TERMINAL_INPUT: [u64; 2] = [0x5412, 0x541c];

/// The oldest kind of packet socket, which the C library does not name any more.
const SOCK_PACKET: i32 = 10;

/// The bits of a socket's type that are not flags.
const SOCKET_TYPE: u64 = 0xf;

fn allowed() -> Result<Rules, BackendError> {
    let mut rules: Rules = ALLOWED
        .iter()
        .chain(ALLOWED_HERE)
        .chain(&UNNAMED)
        .map(|&number| (number, Vec::new()))
        .collect();
    let namespaces = NAMESPACES
        .iter()
        .fold(0, |all, flag| all | u64::from(flag.unsigned_abs()));
    rules.insert(
        libc::SYS_clone,
        vec![rule([(0, SeccompCmpOp::MaskedEq(namespaces), 0)])?],
    );
    let personalities = PERSONALITIES.map(|persona| rule([(0, SeccompCmpOp::Eq, persona)]));
    rules.insert(
        libc::SYS_personality,
        personalities.into_iter().collect::<Result<_, _>>()?,
    );
    rules.insert(libc::SYS_socket, sockets()?);
    let terminal = TERMINAL_INPUT.map(|request| (1, SeccompCmpOp::Ne, request));
    rules.insert(libc::SYS_ioctl, vec![rule(terminal)?]);
    Ok(rules)
}

/// Unix sockets, TCP and UDP, and the netlink family that lists network interfaces. No raw and no packet sockets.
fn sockets() -> Result<Vec<SeccompRule>, BackendError> {
    let family = |family: i32| (0, SeccompCmpOp::Eq, u64::from(family.unsigned_abs()));
    let kind = |kind: i32| {
        (
            1,
            SeccompCmpOp::MaskedEq(SOCKET_TYPE),
            u64::from(kind.unsigned_abs()),
        )
    };
    let mut rules = vec![
        rule([family(libc::AF_UNIX)])?,
        rule([
            family(libc::AF_NETLINK),
            (
                2,
                SeccompCmpOp::Eq,
                u64::from(libc::NETLINK_ROUTE.unsigned_abs()),
            ),
        ])?,
    ];
    for internet in [libc::AF_INET, libc::AF_INET6] {
        rules.push(rule([family(internet), kind(libc::SOCK_STREAM)])?);
        rules.push(rule([family(internet), kind(libc::SOCK_DGRAM)])?);
    }
    Ok(rules)
}

fn refused() -> Result<Rules, BackendError> {
    let mut rules: Rules = REFUSED
        .iter()
        .chain(REFUSED_HERE)
        .map(|&number| (number, Vec::new()))
        .collect();
    let namespaces = NAMESPACES.map(|flag| u64::from(flag.unsigned_abs()));
    let clones = namespaces.map(|flag| rule([(0, SeccompCmpOp::MaskedEq(flag), flag)]));
    rules.insert(
        libc::SYS_clone,
        clones.into_iter().collect::<Result<_, _>>()?,
    );
    let others = PERSONALITIES.map(|persona| (0, SeccompCmpOp::Ne, persona));
    rules.insert(libc::SYS_personality, vec![rule(others)?]);
    rules.insert(libc::SYS_socket, other_sockets()?);
    let terminal = TERMINAL_INPUT.map(|request| rule([(1, SeccompCmpOp::Eq, request)]));
    rules.insert(
        libc::SYS_ioctl,
        terminal.into_iter().collect::<Result<_, _>>()?,
    );
    Ok(rules)
}

fn other_sockets() -> Result<Vec<SeccompRule>, BackendError> {
    let families = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    let number = |constant: i32| u64::from(constant.unsigned_abs());
    let mut rules = vec![
        rule(families.map(|family| (0, SeccompCmpOp::Ne, number(family))))?,
        rule([
            (0, SeccompCmpOp::Eq, number(libc::AF_NETLINK)),
            (2, SeccompCmpOp::Ne, number(libc::NETLINK_ROUTE)),
        ])?,
    ];
    for family in [libc::AF_INET, libc::AF_INET6] {
        let kinds = [
            libc::SOCK_RAW,
            libc::SOCK_RDM,
            libc::SOCK_SEQPACKET,
            libc::SOCK_DCCP,
            SOCK_PACKET,
        ];
        for kind in kinds {
            rules.push(rule([
                (0, SeccompCmpOp::Eq, number(family)),
                (1, SeccompCmpOp::MaskedEq(SOCKET_TYPE), number(kind)),
            ])?);
        }
    }
    Ok(rules)
}

/// A rule that holds if each of the (argument, comparison, value) triples holds. Only the lower half of an argument is compared:
/// all arguments looked at are `int`, and the kernel ignores the rest of them too.
fn rule<const N: usize>(
    conditions: [(u8, SeccompCmpOp, u64); N],
) -> Result<SeccompRule, BackendError> {
    let conditions =
        conditions.map(|(argument, op, value)| SeccompCondition::new(argument, Dword, op, value));
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
}

#[rustfmt::skip]
const ALLOWED: &[c_long] = {
    use libc::*;
    &[
        SYS_accept, SYS_accept4, SYS_adjtimex, SYS_bind, SYS_brk, SYS_capget, SYS_capset, SYS_chdir,
        SYS_clock_adjtime, SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep, SYS_close, SYS_close_range,
        SYS_connect, SYS_copy_file_range, SYS_dup, SYS_dup3, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait,
        SYS_epoll_pwait2, SYS_eventfd2, SYS_execve, SYS_execveat, SYS_exit, SYS_exit_group, SYS_faccessat,
        SYS_faccessat2, SYS_fadvise64, SYS_fallocate, SYS_fchdir, SYS_fchmod, SYS_fchmodat, SYS_fchmodat2, SYS_fchown,
        SYS_fchownat, SYS_fcntl, SYS_fdatasync, SYS_fgetxattr, SYS_flistxattr, SYS_flock, SYS_fremovexattr,
        SYS_fsetxattr, SYS_fstat, SYS_fstatfs, SYS_fsync, SYS_ftruncate, SYS_futex, SYS_futex_waitv, SYS_getcpu,
        SYS_getcwd, SYS_getdents64, SYS_getegid, SYS_geteuid, SYS_getgid, SYS_getgroups, SYS_getitimer,
        SYS_getpeername, SYS_getpgid, SYS_getpid, SYS_getppid, SYS_getpriority, SYS_getrandom, SYS_getresgid,
        SYS_getresuid, SYS_getrlimit, SYS_get_robust_list, SYS_getrusage, SYS_getsid, SYS_getsockname, SYS_getsockopt,
        SYS_gettid, SYS_gettimeofday, SYS_getuid, SYS_getxattr, SYS_inotify_add_watch, SYS_inotify_init1,
        SYS_inotify_rm_watch, SYS_io_cancel, SYS_io_destroy, SYS_io_getevents, SYS_ioprio_get,
        SYS_ioprio_set, SYS_io_setup, SYS_io_submit, SYS_kill, SYS_landlock_add_rule, SYS_landlock_create_ruleset,
        SYS_landlock_restrict_self, SYS_lgetxattr, SYS_linkat, SYS_listen, SYS_listxattr, SYS_llistxattr,
        SYS_lremovexattr, SYS_lseek, SYS_lsetxattr, SYS_madvise, SYS_membarrier, SYS_memfd_create, SYS_mincore,
        SYS_mkdirat, SYS_mknodat, SYS_mlock, SYS_mlock2, SYS_mlockall, SYS_mmap, SYS_mprotect, SYS_mq_getsetattr,
        SYS_mq_notify, SYS_mq_open, SYS_mq_timedreceive, SYS_mq_timedsend, SYS_mq_unlink, SYS_mremap, SYS_mseal,
        SYS_msgctl, SYS_msgget, SYS_msgrcv, SYS_msgsnd, SYS_msync, SYS_munlock, SYS_munlockall, SYS_munmap,
        SYS_name_to_handle_at, SYS_nanosleep, SYS_newfstatat, SYS_openat, SYS_openat2, SYS_pidfd_open,
        SYS_pidfd_send_signal, SYS_pipe2, SYS_pkey_alloc, SYS_pkey_free, SYS_pkey_mprotect, SYS_ppoll, SYS_prctl,
        SYS_pread64, SYS_preadv, SYS_preadv2, SYS_prlimit64, SYS_process_mrelease, SYS_pselect6, SYS_pwrite64,
        SYS_pwritev, SYS_pwritev2, SYS_read, SYS_readahead, SYS_readlinkat, SYS_readv, SYS_recvfrom, SYS_recvmmsg,
        SYS_recvmsg, SYS_remap_file_pages, SYS_removexattr, SYS_renameat, SYS_renameat2, SYS_restart_syscall, SYS_rseq,
        SYS_rt_sigaction, SYS_rt_sigpending, SYS_rt_sigprocmask, SYS_rt_sigqueueinfo, SYS_rt_sigreturn,
        SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_rt_tgsigqueueinfo, SYS_sched_getaffinity, SYS_sched_getattr,
        SYS_sched_getparam, SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_sched_getscheduler,
        SYS_sched_rr_get_interval, SYS_sched_setaffinity, SYS_sched_setattr, SYS_sched_setparam,
        SYS_sched_setscheduler, SYS_sched_yield, SYS_seccomp, SYS_semctl, SYS_semget, SYS_semop, SYS_semtimedop,
        SYS_sendfile, SYS_sendmmsg, SYS_sendmsg, SYS_sendto, SYS_setfsgid, SYS_setfsuid, SYS_setgid, SYS_setgroups,
        SYS_setitimer, SYS_setpgid, SYS_setpriority, SYS_setregid, SYS_setresgid, SYS_setresuid, SYS_setreuid,
        SYS_setrlimit, SYS_set_robust_list, SYS_setsid, SYS_setsockopt, SYS_set_tid_address, SYS_setuid, SYS_setxattr,
        SYS_shmat, SYS_shmctl, SYS_shmdt, SYS_shmget, SYS_shutdown, SYS_sigaltstack, SYS_signalfd4, SYS_socketpair,
        SYS_splice, SYS_statfs, SYS_statx, SYS_symlinkat, SYS_sync, SYS_sync_file_range, SYS_syncfs, SYS_sysinfo,
        SYS_tee, SYS_tgkill, SYS_timer_create, SYS_timer_delete, SYS_timer_getoverrun, SYS_timer_gettime,
        SYS_timer_settime, SYS_timerfd_create, SYS_timerfd_gettime, SYS_timerfd_settime, SYS_times, SYS_tkill,
        SYS_truncate, SYS_umask, SYS_uname, SYS_unlinkat, SYS_utimensat, SYS_vmsplice, SYS_wait4, SYS_waitid,
        SYS_write, SYS_writev,
    ]
};

/// What the C library has no names for: `io_pgetevents`, `cachestat`.
#[cfg(target_arch = "x86_64")]
const UNNAMED: [c_long; 2] = [333, 451];
#[cfg(not(target_arch = "x86_64"))]
const UNNAMED: [c_long; 2] = [292, 451];

/// What only this architecture has: the calls that newer ones were spared.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[c_long] = {
    use libc::*;
    &[
        SYS_access, SYS_alarm, SYS_arch_prctl, SYS_chmod, SYS_chown, SYS_creat, SYS_dup2, SYS_epoll_create,
        SYS_epoll_wait, SYS_eventfd, SYS_fork, SYS_futimesat, SYS_getdents, SYS_getpgrp, SYS_inotify_init, SYS_lchown,
        SYS_link, SYS_lstat, SYS_mkdir, SYS_mknod, SYS_open, SYS_pause, SYS_pipe, SYS_poll,
        SYS_readlink, SYS_rename, SYS_rmdir, SYS_select, SYS_signalfd, SYS_stat, SYS_symlink, SYS_time, SYS_unlink,
        SYS_utime, SYS_utimes, SYS_vfork,
    ]
};
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

/// `clone3` is missing on purpose: its flags are behind a pointer, where no filter can look. `ENOSYS` makes every C library fall
/// back to `clone`.
#[rustfmt::skip]
const REFUSED: &[c_long] = {
    use libc::*;
    &[
        SYS_acct, SYS_add_key, SYS_bpf, SYS_chroot, SYS_clock_settime, SYS_delete_module, SYS_fanotify_init,
        SYS_finit_module, SYS_fsconfig, SYS_fsmount, SYS_fsopen, SYS_fspick, SYS_init_module, SYS_io_uring_enter,
        SYS_io_uring_register, SYS_io_uring_setup, SYS_kcmp, SYS_kexec_file_load, SYS_kexec_load, SYS_keyctl,
        SYS_lookup_dcookie, SYS_mount, SYS_mount_setattr, SYS_move_mount, SYS_open_by_handle_at, SYS_open_tree,
        SYS_perf_event_open, SYS_pidfd_getfd, SYS_pivot_root, SYS_process_madvise, SYS_process_vm_readv,
        SYS_process_vm_writev, SYS_ptrace, SYS_quotactl, SYS_quotactl_fd, SYS_reboot, SYS_request_key,
        SYS_setdomainname, SYS_sethostname, SYS_setns, SYS_settimeofday, SYS_swapoff, SYS_swapon, SYS_syslog,
        SYS_umount2, SYS_unshare, SYS_userfaultfd, SYS_vhangup,
    ]
};

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] = {
    use libc::*;
    &[
        SYS_ioperm,
        SYS_iopl,
        SYS_modify_ldt,
        SYS_sysfs,
        SYS_uselib,
        SYS_ustat,
    ]
};
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

#[cfg(test)]
mod tests {
    use libc::c_long;
    use seccompiler::sock_filter;

    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;

    /// What the kernel answers, by both filters as it evaluates them.
    fn answer(call: c_long, arguments: [u64; 3]) -> u32 {
        let filter = Filter::compile().unwrap();
        let [allow, refuse] = &filter.programs;
        let answers = [
            evaluate(refuse, call, arguments),
            evaluate(allow, call, arguments),
        ];
        // The lower action is the stricter one; of equal ones that of the filter installed last counts.
        *answers
            .iter()
            .min_by_key(|answer| **answer & 0xffff_0000)
            .unwrap()
    }

    /// The few instructions that the filters are made of.
    fn evaluate(program: &[sock_filter], call: c_long, arguments: [u64; 3]) -> u32 {
        let arch: u32 = if cfg!(target_arch = "x86_64") {
            0xc000_003e
        } else {
            0xc000_00b7
        };
        let call = u32::try_from(call).unwrap();
        let load = |offset: u32| match offset {
            0 => call,
            4 => arch,
            _ => {
                let argument = arguments
                    .get((offset as usize - 16) / 8)
                    .copied()
                    .unwrap_or(0);
                (argument >> ((offset % 8) * 8)) as u32
            }
        };
        let (mut place, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[place].clone();
            place += 1;
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            match code {
                0x20 => accumulator = load(k),
                0x54 => accumulator &= k,
                0x05 => place += k as usize,
                0x15 => place += jump(accumulator == k),
                0x25 => place += jump(accumulator > k),
                0x35 => place += jump(accumulator >= k),
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn denied(call: c_long, arguments: [u64; 3]) -> bool {
        answer(call, arguments) == ERRNO | libc::EPERM.unsigned_abs()
    }

    fn unknown(call: c_long, arguments: [u64; 3]) -> bool {
        answer(call, arguments) == ERRNO | libc::ENOSYS.unsigned_abs()
    }

    #[test]
    fn what_reaches_for_the_kernel_is_refused() {
        use libc::*;
        let calls = [
            SYS_mount,
            SYS_umount2,
            SYS_pivot_root,
            SYS_ptrace,
            SYS_process_vm_writev,
            SYS_keyctl,
            SYS_add_key,
            SYS_bpf,
            SYS_unshare,
            SYS_setns,
            SYS_io_uring_setup,
            SYS_io_uring_enter,
            SYS_perf_event_open,
            SYS_kexec_load,
            SYS_init_module,
            SYS_finit_module,
            SYS_open_by_handle_at,
            SYS_userfaultfd,
            SYS_reboot,
            SYS_swapon,
            SYS_syslog,
            SYS_settimeofday,
            SYS_chroot,
            SYS_fsopen,
            SYS_move_mount,
            SYS_mount_setattr,
            SYS_pidfd_getfd,
            SYS_acct,
        ];
        for call in calls {
            assert!(denied(call, [0; 3]), "system call {call}");
        }
    }

    #[test]
    fn what_the_profile_does_not_know_looks_like_an_old_kernel() {
        for call in [libc::SYS_clone3, 100_000, 0x4000_0000 + libc::SYS_mount] {
            assert!(unknown(call, [0; 3]), "system call {call}");
        }
    }

    #[test]
    fn processes_are_made_in_the_namespaces_they_are_in() {
        let thread = 0x3d_0f00;
        assert_eq!(answer(libc::SYS_clone, [thread, 0, 0]), ALLOW);
        assert_eq!(answer(libc::SYS_clone, [17, 0, 0]), ALLOW);
        for flag in NAMESPACES {
            let flag = u64::from(flag.unsigned_abs());
            assert!(denied(libc::SYS_clone, [flag | 17, 0, 0]), "flag {flag:#x}");
            // Bits that the kernel ignores do not hide the others.
            assert!(
                denied(libc::SYS_clone, [flag | thread | 1 << 40, 0, 0]),
                "flag {flag:#x}"
            );
        }
    }

    #[test]
    fn sockets_are_for_ordinary_traffic() {
        let socket = |family: i32, kind: i32, protocol: i32| {
            answer(
                libc::SYS_socket,
                [family, kind, protocol].map(|number| u64::from(number.unsigned_abs())),
            )
        };
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
            assert_eq!(socket(family, libc::SOCK_STREAM | flags, 0), ALLOW);
            assert_eq!(socket(family, libc::SOCK_DGRAM | flags, 0), ALLOW);
        }
        assert_eq!(
            socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | flags,
                libc::NETLINK_ROUTE
            ),
            ALLOW
        );
        let refused = ERRNO | libc::EPERM.unsigned_abs();
        for (family, kind, protocol) in [
            (libc::AF_INET, libc::SOCK_RAW | flags, 1),
            (libc::AF_INET6, libc::SOCK_RAW, 58),
            (libc::AF_INET, SOCK_PACKET, 0),
            (libc::AF_PACKET, libc::SOCK_DGRAM, 0),
            (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
            (libc::AF_VSOCK, libc::SOCK_STREAM, 0),
            (libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
            (libc::AF_BLUETOOTH, libc::SOCK_RAW, 0),
        ] {
            assert_eq!(
                socket(family, kind, protocol),
                refused,
                "{family} {kind} {protocol}"
            );
        }
    }

    #[test]
    fn terminals_cannot_be_typed_into_and_personalities_stay_ordinary() {
        assert_eq!(answer(libc::SYS_ioctl, [0, 0x5413, 0]), ALLOW);
        for request in TERMINAL_INPUT {
            assert!(denied(libc::SYS_ioctl, [0, request, 0]));
            // The kernel looks at the lower half alone.
            assert!(denied(libc::SYS_ioctl, [0, request | 1 << 32, 0]));
        }
        assert_eq!(answer(libc::SYS_personality, [0xffff_ffff, 0, 0]), ALLOW);
        assert!(denied(libc::SYS_personality, [0x0040_0000, 0, 0]));
    }

    #[test]
    fn ordinary_calls_pass_and_both_filters_fit_into_the_kernel() {
        for call in [
            libc::SYS_read,
            libc::SYS_execve,
            libc::SYS_futex,
            libc::SYS_openat,
            libc::SYS_epoll_pwait,
            libc::SYS_connect,
        ] {
            assert_eq!(answer(call, [0; 3]), ALLOW, "system call {call}");
        }
        for program in &Filter::compile().unwrap().programs {
            assert!(
                (100..4096).contains(&program.len()),
                "{} instructions",
                program.len()
            );
        }
    }
}
