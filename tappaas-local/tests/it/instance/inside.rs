//! What tests run inside a sandbox: this very binary, seen inside as [`PROGRAM`].

use std::{net::TcpStream, time::Duration};

use nix::sched::{CloneFlags, unshare};
use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags},
    net::{AddressFamily, SocketType},
};
use tappaas_local::{Bind, Spec};

/// Where this binary is inside.
pub(super) const PROGRAM: &str = "/probe/it";

/// Makes a spec run one of the tests below inside, instead of what it ran.
pub(super) fn run(spec: &mut Spec, test: &str) {
    let program = std::fs::canonicalize("/proc/self/exe").unwrap();
    spec.binds.push(Bind {
        source: program,
        target: PROGRAM.into(),
        read_only: true,
    });
    let name = format!("instance::inside::{test}");
    spec.command = [
        PROGRAM,
        "--ignored",
        "--exact",
        &name,
        "--nocapture",
        "--test-threads=1",
    ]
    .map(str::to_owned)
    .to_vec();
}

#[test]
#[ignore = "started inside a sandbox by another test"]
fn calls_that_reach_for_the_kernel_are_refused() {
    assert_eq!(
        unshare(CloneFlags::CLONE_NEWUSER),
        Err(nix::errno::Errno::EPERM)
    );
    assert_eq!(
        unshare(CloneFlags::CLONE_NEWNS),
        Err(nix::errno::Errno::EPERM)
    );
    let mounted = rustix::mount::mount("none", "/tmp", "tmpfs", MountFlags::empty(), None);
    assert_eq!(mounted, Err(Errno::PERM));
    assert_eq!(
        rustix::mount::unmount("/tmp", UnmountFlags::empty()),
        Err(Errno::PERM)
    );
    assert_eq!(rustix::process::chroot("/tmp"), Err(Errno::PERM));
    assert_eq!(rustix::system::sethostname(b"other"), Err(Errno::PERM));
    assert_eq!(nix::sys::ptrace::traceme(), Err(nix::errno::Errno::EPERM));
    let parent = nix::unistd::getppid();
    let attached = nix::sys::ptrace::attach(parent);
    assert_eq!(attached, Err(nix::errno::Errno::EPERM));
    // The kernel lets any user make this one; only the filter refuses it.
    const CRYPTO: AddressFamily = AddressFamily::from_raw(38);
    let crypto = rustix::net::socket(CRYPTO, SocketType::SEQPACKET, None);
    assert_eq!(crypto.unwrap_err(), Errno::PERM);
    let raw = rustix::net::socket(
        AddressFamily::INET,
        SocketType::RAW,
        Some(rustix::net::ipproto::ICMP),
    );
    assert_eq!(raw.unwrap_err(), Errno::PERM);
    let packet = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None);
    assert_eq!(packet.unwrap_err(), Errno::PERM);
    assert!(rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).is_ok());
}

/// Ways out that begin with a file, a module, or a new way to mount.
#[test]
#[ignore = "started inside a sandbox by another test"]
fn what_would_lead_out_of_the_sandbox_is_refused() {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let own = std::fs::File::open("/proc/self/ns/mnt").unwrap();
    let entered = nix::sched::setns(&own, CloneFlags::empty());
    assert_eq!(entered, Err(nix::errno::Errno::EPERM));
    let opened = rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::empty());
    assert_eq!(opened.unwrap_err(), Errno::PERM);
    let tree = rustix::mount::open_tree(CWD, "/", rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE);
    assert_eq!(tree.unwrap_err(), Errno::PERM);
    let pivoted = rustix::process::pivot_root("/tmp", "/tmp");
    assert_eq!(pivoted, Err(Errno::PERM));
    let module = rustix::system::init_module(&[0], c"");
    assert_eq!(module, Err(Errno::PERM));
    for (kind, major, minor) in [
        (FileType::CharacterDevice, 1, 1),
        (FileType::CharacterDevice, 1, 11),
        (FileType::BlockDevice, 7, 0),
    ] {
        let made = mknodat(CWD, "/tmp/device", kind, Mode::RUSR, makedev(major, minor));
        assert_eq!(made, Err(Errno::PERM), "{kind:?} {major}:{minor}");
    }
    for file in [
        "/proc/kcore",
        "/proc/kmsg",
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
    ] {
        for write in [false, true] {
            let opened = std::fs::OpenOptions::new()
                .read(!write)
                .write(write)
                .open(file);
            let shown = !write && file.contains("/sys/");
            let hidden = || std::fs::read(file).is_ok_and(|bytes| bytes.is_empty());
            assert!(opened.is_err() || shown || hidden(), "{file} {write}");
        }
    }
}

/// The devices, processes, networks and control groups that are seen from inside.
#[test]
#[ignore = "started inside a sandbox by another test"]
fn only_its_own_devices_processes_and_addresses_are_seen() {
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let devices = names("/dev");
    let known = [
        "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
        "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    ];
    assert!(
        devices.iter().all(|name| known.contains(&name.as_str())),
        "{devices:?}"
    );
    let processes = names("/proc")
        .into_iter()
        .filter(|name| name.parse::<u32>().is_ok());
    assert!(processes.count() <= 4, "processes of others are seen");
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    assert!(
        !sockets.contains("api.sock") && !sockets.contains("edge.sock"),
        "{sockets}"
    );
    // No address by which a neighbour on the same wire could be reached around the rules.
    let addresses = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    assert!(
        addresses.lines().all(|line| line.ends_with(" lo")),
        "{addresses}"
    );
    assert!(std::fs::write("/sys/fs/cgroup/cgroup.procs", "1").is_err());
    for group in names("/sys/fs/cgroup") {
        let limit = format!("/sys/fs/cgroup/{group}/memory.limit_in_bytes");
        assert!(
            std::fs::write(&limit, "-1").is_err(),
            "{limit} can be written"
        );
    }
}

#[test]
#[ignore = "started inside a sandbox by another test"]
fn threads_and_processes_can_be_started() {
    let sum: i32 = (0..4)
        .map(|number| std::thread::spawn(move || number))
        .map(|thread| thread.join().unwrap())
        .sum();
    assert_eq!(sum, 6);
    assert!(
        std::process::Command::new("/bin/true")
            .status()
            .unwrap()
            .success()
    );
}

/// Serves `hello` at a port, on all addresses.
#[test]
#[ignore = "started inside a sandbox by another test"]
fn a_server() {
    serve("0.0.0.0:8080");
}

/// Serves `hello` at a port that only processes inside reach.
#[test]
#[ignore = "started inside a sandbox by another test"]
fn a_server_for_itself() {
    serve("127.0.0.1:8080");
}

/// Serves at a port that elsewhere only root may have.
#[test]
#[ignore = "started inside a sandbox by another test"]
fn a_server_at_port_80() {
    serve("0.0.0.0:80");
}

#[expect(
    clippy::print_stdout,
    reason = "it runs inside a sandbox, and is heard through its output"
)]
fn serve(address: &str) {
    let listener = std::net::TcpListener::bind(address).unwrap();
    println!("serving");
    for stream in listener.incoming() {
        std::io::Write::write_all(&mut stream.unwrap(), b"hello").unwrap();
    }
}

/// Answers `hello` to each datagram at a port.
#[test]
#[ignore = "started inside a sandbox by another test"]
fn a_server_of_datagrams() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:8080").unwrap();
    println!("serving");
    let mut asked = [0; 16];
    loop {
        let (_, from) = socket.recv_from(&mut asked).unwrap();
        socket.send_to(b"hello", from).unwrap();
    }
}

/// Sends a datagram to each address of `TARGETS` and prints what came of it.
#[test]
#[ignore = "started inside a sandbox by another test"]
fn a_client_of_datagrams() {
    println!();
    for target in std::env::var("TARGETS").unwrap().split(' ') {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        let mut answer = [0; 16];
        let heard = socket
            .send_to(b"?", target)
            .and_then(|_| socket.recv(&mut answer));
        match heard {
            Ok(length) => println!(
                "{target} said {:?}",
                String::from_utf8_lossy(&answer[..length])
            ),
            Err(error) => println!("{target} {:?}", error.kind()),
        }
    }
    println!("tried all");
}

/// Tries each address of `TARGETS` and prints what came of it.
#[test]
#[ignore = "started inside a sandbox by another test"]
fn a_client() {
    println!();
    for target in std::env::vars()
        .filter(|(name, _)| name == "TARGETS")
        .flat_map(|(_, list)| list.split(' ').map(str::to_owned).collect::<Vec<_>>())
    {
        let address = target.parse().unwrap();
        let outcome = match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
            Ok(mut stream) => {
                let mut text = String::new();
                stream
                    .set_read_timeout(Some(Duration::from_secs(2)))
                    .unwrap();
                std::io::Read::read_to_string(&mut stream, &mut text).ok();
                format!("said {text:?}")
            }
            Err(error) => format!("{:?}", error.kind()),
        };
        println!("{target} {outcome}");
    }
    println!("tried all");
}

/// Takes memory until it is killed.
#[test]
#[ignore = "started inside a sandbox by another test"]
fn a_glutton() {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(vec![1; 8 << 20]);
        std::hint::black_box(&taken);
    }
}

/// Starts processes until that is refused, and says how many.
#[test]
#[ignore = "started inside a sandbox by another test"]
fn a_breeder() {
    let mut children = Vec::new();
    while let Ok(child) = std::process::Command::new("/bin/sleep").arg("60").spawn() {
        children.push(child);
        assert!(children.len() < 1_000);
    }
    println!("{} children", children.len());
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Says what it hears of SIGTERM, and goes on.
#[test]
#[ignore = "started inside a sandbox by another test"]
fn one_that_will_not_stop() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        println!("deaf");
        loop {
            terminate.recv().await;
            println!("no");
        }
    });
}

/// Ends by itself when told to, with exit code 7.
#[test]
#[ignore = "started inside a sandbox by another test"]
fn one_that_stops_when_told() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        println!("ready");
        terminate.recv().await;
        println!("bye");
        std::process::exit(7);
    });
}
