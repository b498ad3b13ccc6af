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
