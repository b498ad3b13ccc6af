//! How long it takes from nothing to a running process in a sandbox with limits, ours and runc's in turn, in lines of
//! `figure NAME VALUE`: `start DIRECTORY TURNS`. Both see this machine's userland, with the same namespaces, mounts and limits.
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tappaas_core::model::EnvValue;
use tappaas_local::{
    Account, Bind, HostStack, Instance, Isolation, Limits, LogLimits, Network, Restart, Root, Spec,
    Stop, User,
};
use tokio::time::Instant;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const USER: u32 = 20_001;
const MEMORY: u64 = 256 << 20;
const PIDS: u32 = 64;
const TMP: u64 = 16 << 20;
/// Of each tenth of a second, in microseconds: one core.
const CPU_QUOTA: u64 = 100_000;

fn main() -> Outcome {
    tappaas_local::helper_main();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(measure())
}

async fn measure() -> Outcome {
    let words: Vec<String> = std::env::args().collect();
    let [program, folder, turns] = &words[..] else {
        return Err("usage: start DIRECTORY TURNS".into());
    };
    let (program, folder) = (Path::new(program), Path::new(folder));
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711))?;
    let stack = HostStack::prepare(&folder.join("stack"), &[])?;
    let bundle = folder.join("bundle");
    prepare_bundle(&bundle, &stack)?;
    for turn in 0..turns.parse::<u32>()? {
        println!(
            "figure ours-ms {}",
            ours(program, folder, &stack, turn).await?
        );
        println!("figure runc-ms {}", runc(folder, &bundle, turn)?);
    }
    Ok(())
}

/// From the call until the process is executed.
async fn ours(program: &Path, folder: &Path, stack: &HostStack, turn: u32) -> Outcome<f64> {
    let spec = spec(stack, &format!("bench-{}-{turn}", std::process::id()));
    let began = Instant::now();
    let instance = Instance::start(program, &folder.join(&spec.id), &spec).await?;
    let took = ms(began);
    let enforced = instance.status().await?.enforced;
    instance.stop(Some(Duration::ZERO)).await?;
    instance.remove().await?;
    match (enforced.memory, enforced.cpu, enforced.pids) {
        (true, true, true) => Ok(took),
        _ => Err(format!("not all limits hold here: {enforced:?}").into()),
    }
}

/// From the start of runc until it has executed the process and ended.
fn runc(folder: &Path, bundle: &Path, turn: u32) -> Outcome<f64> {
    let id = format!("bench-{}-{turn}", std::process::id());
    let root = folder.join("runc");
    let command = |words: &[&str]| {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&root).args(words);
        command
    };
    let mut run = command(&["run", "--detach", "--bundle"]);
    run.arg(bundle).arg(&id).stdin(Stdio::null());
    let log = fs::File::create(folder.join("runc.log"))?;
    run.stdout(log.try_clone()?).stderr(log);
    let began = Instant::now();
    let ran = run.status()?;
    let took = ms(began);
    command(&["delete", "--force", &id]).status()?;
    match ran.success() {
        true => Ok(took),
        false => Err(fs::read_to_string(folder.join("runc.log"))?.into()),
    }
}

fn spec(stack: &HostStack, id: &str) -> Spec {
    let account = Account {
        id: USER,
        home: "/tmp",
        hostname: "box",
        address: None,
        nameservers: &[],
    };
    let path = ("PATH".to_owned(), EnvValue::new(stack.path.as_str()));
    Spec {
        id: id.to_owned(),
        isolation: Isolation::Privileged,
        user: User::Id(USER),
        command: command(),
        environment: BTreeMap::from([path]),
        workdir: "/tmp".into(),
        hostname: "box".to_owned(),
        root: Root {
            layers: vec![stack.layer.clone()],
            files: account.files(),
            writable: None,
        },
        binds: stack.binds.clone(),
        tmp_bytes: TMP,
        limits: Limits {
            memory: Some(MEMORY),
            cpu_millis: Some(1_000),
            pids: Some(PIDS),
            yields: false,
        },
        network: Network::Private { pasta: None },
        restart: Restart::default(),
        stop: Stop::default(),
        log: LogLimits::default(),
        deadline: None,
    }
}

fn command() -> Vec<String> {
    ["/bin/sleep", "1000"].map(str::to_owned).to_vec()
}

/// What runc reads. Its root is a plain folder: it does not lay layers over each other, and has no log to keep.
fn prepare_bundle(bundle: &Path, stack: &HostStack) -> Outcome {
    fs::create_dir(bundle)?;
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(&stack.layer).arg(bundle.join("rootfs"));
    let copied = copy.status()?;
    if !copied.success() {
        return Err("the root file system was not copied".into());
    }
    Ok(fs::write(
        bundle.join("config.json"),
        config(stack).to_string(),
    )?)
}

fn config(stack: &HostStack) -> Value {
    let namespaces = ["pid", "mount", "ipc", "uts", "cgroup", "network"];
    let nothing: [&str; 0] = [];
    json!({
        "ociVersion": "1.0.2",
        "hostname": "box",
        "root": { "path": "rootfs", "readonly": true },
        "process": {
            "user": { "uid": USER, "gid": USER },
            "args": command(),
            "env": [format!("PATH={}", stack.path)],
            "cwd": "/tmp",
            "noNewPrivileges": true,
            "capabilities": { "bounding": nothing, "effective": nothing, "permitted": nothing },
            "rlimits": [{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }],
        },
        "mounts": mounts(stack),
        "linux": {
            "namespaces": namespaces.map(|kind| json!({ "type": kind })),
            "cgroupsPath": "/tappaas-bench",
            "resources": {
                "memory": { "limit": MEMORY },
                "cpu": { "quota": CPU_QUOTA, "period": 100_000 },
                "pids": { "limit": PIDS },
            },
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{ "names": REFUSED, "action": "SCMP_ACT_ERRNO" }],
            },
        },
    })
}

fn mounts(stack: &HostStack) -> Vec<Value> {
    let mount = |at: &str, kind: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": kind, "options": options });
    let tmp = format!("size={TMP}");
    let plain = ["nosuid", "noexec", "nodev"];
    let mut mounts = vec![
        mount("/proc", "proc", &plain),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "noexec", "mode=755", "size=64k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
            ],
        ),
        mount("/dev/mqueue", "mqueue", &plain),
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=64m"],
        ),
        mount("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777", &tmp]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    let bound = |bind: &Bind| {
        json!({
            "destination": bind.target,
            "source": bind.source,
            "type": "bind",
            "options": ["rbind", "rprivate", "nosuid", "nodev", "ro"],
        })
    };
    mounts.extend(stack.binds.iter().map(bound));
    mounts
}

fn ms(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

/// What ours refuses by name. Its second filter, of everything it allows, is not asked of runc.
#[rustfmt::skip]
const REFUSED: &[&str] = &[
    "acct", "add_key", "bpf", "chroot", "clock_settime", "delete_module", "fanotify_init", "finit_module", "fsconfig", "fsmount",
    "fsopen", "fspick", "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup", "kcmp", "kexec_file_load",
    "kexec_load", "keyctl", "lookup_dcookie", "mount", "mount_setattr", "move_mount", "open_by_handle_at", "open_tree",
    "perf_event_open", "pidfd_getfd", "pivot_root", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace",
    "quotactl", "reboot", "request_key", "setdomainname", "sethostname", "setns", "settimeofday", "swapoff", "swapon", "syslog",
    "umount2", "unshare", "userfaultfd",
];
