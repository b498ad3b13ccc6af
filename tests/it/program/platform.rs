use std::{
    cell::RefCell,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::census::{self, Census, Process};

/// How long anything may take before a test gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// The kernel takes network namespaces and their interfaces down in its own time.
const CLEAN_MAX: Duration = Duration::from_secs(10);
const REPLY_MAX: Duration = Duration::from_secs(15);
/// So often another pair of ports is tried when somebody took one meanwhile.
const STARTS_MAX: usize = 5;

/// Platforms take turns: each of them keeps the machine busy enough.
static TURN: Mutex<()> = Mutex::new(());

/// A data directory and addresses for one platform. Whatever runs there ends when this is dropped.
#[derive(Debug)]
pub(super) struct Platform {
    folder: TempDir,
    ports: RefCell<(u16, u16)>,
    server: RefCell<Option<Child>>,
    isolation: Isolation,
    _turn: MutexGuard<'static, ()>,
}

impl Platform {
    /// A place where no server runs yet.
    pub(super) fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new().prefix("tpp").tempdir().unwrap();
        Self {
            folder,
            ports: RefCell::new((free_port(), free_port())),
            server: RefCell::default(),
            isolation: isolation(),
            _turn: turn,
        }
    }

    /// A place where a server runs in the foreground.
    pub(super) fn served() -> Self {
        let platform = Self::new();
        platform.serve();
        platform
    }

    /// Whether instances run in sandboxes with limits and networks of their own; says so where they do not.
    pub(super) fn sandboxed(&self, wanted_for: &str) -> bool {
        let sandboxed = self.isolation == Isolation::Whole;
        if !sandboxed {
            eprintln!("NOT TRIED, because it takes root and namespaces: {wanted_for}");
        }
        sandboxed
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder beside the data directory.
    pub(super) fn dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `--http` and `--admin` of this platform, and how instances are kept apart.
    pub(super) fn serve_arguments(&self) -> Vec<String> {
        let (http, admin) = *self.ports.borrow();
        let mut arguments = vec![
            "--http".to_owned(),
            format!("127.0.0.1:{http}"),
            "--admin".to_owned(),
            format!("127.0.0.1:{admin}"),
        ];
        if self.isolation == Isolation::None {
            arguments.extend(["--isolation", "none"].map(str::to_owned));
        }
        arguments
    }

    /// The value of a figure of the server, zero if it has none of that name.
    pub(super) fn figure(&self, name: &str) -> u64 {
        let figures = ask(self.ports.borrow().1, "localhost", "/metrics").unwrap();
        let mut lines = figures.body.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    /// The port of the edge.
    pub(super) fn http(&self) -> u16 {
        self.ports.borrow().0
    }

    /// Starts the server, at other ports if somebody took one of them meanwhile.
    pub(super) fn serve(&self) {
        for _ in 0..STARTS_MAX {
            let Err(said) = self.start() else {
                return;
            };
            assert!(said.contains("Address already in use"), "{said}");
            *self.ports.borrow_mut() = (free_port(), free_port());
        }
        panic!("no free pair of ports was found");
    }

    /// Starts the server again, at the same ports.
    pub(super) fn serve_again(&self) {
        self.start().unwrap();
    }

    /// Starts the server at the same ports, and ends it with `SIGKILL` after a while, whether it answers then or not.
    pub(super) fn serve_for(&self, time: Duration) {
        let mut server = self.spawn();
        std::thread::sleep(time);
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Where the server that runs, or that ran last, writes its log.
    pub(super) fn log(&self) -> PathBuf {
        self.dir("serve.log")
    }

    fn spawn(&self) -> Child {
        // What the one before it wrote may tell why a test failed.
        let _ = fs::rename(self.log(), self.dir("serve.log.1"));
        self.command(&["serve"])
            .args(self.serve_arguments())
            .env("TAPPAAS_LOG", "info,tappaas_core=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.log()).unwrap())
            .spawn()
            .unwrap()
    }

    /// Starts the server and waits until it answers; what it said if it ended instead.
    fn start(&self) -> Result<(), String> {
        let mut child = self.spawn();
        let mut ended = false;
        until("the server answers or ends", || {
            ended = child.try_wait().unwrap().is_some();
            ended || self.run(&["apps"]).code == 0
        });
        if ended {
            return Err(fs::read_to_string(self.log()).unwrap());
        }
        *self.server.borrow_mut() = Some(child);
        Ok(())
    }

    /// Ends the server with `SIGKILL`.
    pub(super) fn kill_server(&self) {
        let mut server = self.server.take().expect("a server runs");
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Waits for the server's own end, and answers whether it ended well.
    pub(super) fn server_ends(&self) -> bool {
        let mut server = self.server.take().expect("a server runs");
        let mut status = None;
        until("the server ends", || {
            status = server.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().success()
    }

    /// The program with arguments, to be started by the test.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tappaas"));
        command
            .args(arguments.iter().take_while(|argument| **argument != "--"))
            .arg("--data-dir")
            .arg(self.data())
            .args(arguments.iter().skip_while(|argument| **argument != "--"));
        command
    }

    /// Runs a command to its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "")
    }

    /// Runs a command to its end, with something on its standard input.
    pub(super) fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        self.begin(arguments, input).end()
    }

    /// Begins to run a command.
    pub(super) fn begin(&self, arguments: &[&str], input: &str) -> Running {
        // A file and not a pipe: what a detached server inherits must not keep the test waiting.
        let out = tempfile::tempfile_in(self.folder.path()).unwrap();
        let err = tempfile::tempfile_in(self.folder.path()).unwrap();
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(out.try_clone().unwrap())
            .stderr(err.try_clone().unwrap())
            .spawn()
            .unwrap();
        // A command that does not read its input may end before all of it is written.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Running {
            what: arguments.join(" "),
            child,
            out,
            err,
        }
    }

    /// Runs a command that is to succeed, and answers what it printed.
    pub(super) fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok()
    }

    /// Runs a command that is to succeed and print JSON.
    pub(super) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let printed = self.ok(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error} in {printed}"))
    }

    /// Asks the edge for a page of a host.
    pub(super) fn get(&self, host: &str, path: &str) -> Reply {
        ask(self.http(), host, path).unwrap()
    }

    /// Waits until the edge answers with this page.
    pub(super) fn answers(&self, host: &str, page: &str) {
        let mut last = Reply::default();
        within(
            PATIENCE,
            || {
                last = self.get(host, "/");
                last.status == 200 && last.body == page
            },
            || panic!("{host} answers something else than {page:?}"),
        );
    }

    /// The processes of this platform whose command line holds `part`.
    pub(super) fn processes(&self, part: &str) -> Vec<Process> {
        let all = census::processes(&self.data());
        all.into_iter()
            .filter(|process| process.command.contains(part))
            .collect()
    }

    /// Waits until nothing of this platform is left on the machine.
    pub(super) fn leaves_nothing(&self) {
        within(
            CLEAN_MAX,
            || Census::take(&self.data()).is_empty(),
            || panic!("left behind: {:#?}", Census::take(&self.data())),
        );
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in [self.dir("serve.log.1"), self.log()] {
                let log = fs::read_to_string(log).unwrap_or_default();
                eprintln!("a server's log:\n{log}");
            }
        }
        // A test that failed may have left no server, which alone can stop instances in an orderly way.
        let stopped = Command::new(env!("CARGO_BIN_EXE_tappaas"))
            .args(["stop", "--apps", "--data-dir"])
            .arg(self.data())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status();
        if let Some(mut server) = self.server.take() {
            if !stopped.is_ok_and(|status| status.success()) {
                let _ = server.kill();
            }
            let _ = server.wait();
        }
        for process in census::processes(&self.data()) {
            process.kill();
        }
    }
}

/// A command that runs.
#[derive(Debug)]
pub(super) struct Running {
    what: String,
    child: Child,
    out: File,
    err: File,
}

impl Running {
    /// Waits for its end.
    pub(super) fn end(mut self) -> Ran {
        let mut status = None;
        until(&format!("`tappaas {}` ends", self.what), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        Ran {
            what: self.what,
            code: status.unwrap().code().unwrap_or(-1),
            stdout: content(self.out),
            stderr: content(self.err),
        }
    }
}

/// How a command went.
#[derive(Debug)]
pub(super) struct Ran {
    what: String,
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ran {
    /// It succeeded; what it printed.
    #[track_caller]
    pub(super) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }

    /// How it ended, and the last line of what it said.
    pub(super) fn summary(&self) -> String {
        let last = self.stderr.trim().lines().last();
        format!("code {}: {}", self.code, last.unwrap_or_default())
    }

    /// It failed and said all of `parts` on standard error.
    #[track_caller]
    pub(super) fn refused(&self, parts: &[&str]) {
        assert_eq!(self.code, 1, "`{}`: {self:#?}", self.what);
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {self:#?}");
        }
    }
}

/// What the edge answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Sends one request on a connection of its own.
pub(super) fn ask(port: u16, host: &str, path: &str) -> std::io::Result<Reply> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut connection = TcpStream::connect_timeout(&address, REPLY_MAX)?;
    connection.set_read_timeout(Some(REPLY_MAX))?;
    // Version 1.0 has neither chunks nor a second request: the reply ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut reply = String::new();
    connection.read_to_string(&mut reply)?;
    let cut = || std::io::Error::other(format!("{reply:?} is no whole reply"));
    let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Reply {
        status: status.ok_or_else(cut)?,
        body: body.to_owned(),
    })
}

/// Waits until a condition holds.
#[track_caller]
pub(super) fn until(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, condition, || panic!("never came true: {what}"));
}

fn within(time_max: Duration, mut condition: impl FnMut() -> bool, late: impl Fn()) {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > time_max {
            return late();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How far this machine lets the program keep instances apart, by the program's own word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Isolation {
    /// In sandboxes, with limits and networks.
    Whole,
    /// As well as a plain user can.
    Partial,
    /// Not at all.
    None,
}

fn isolation() -> Isolation {
    static REPORT: LazyLock<Isolation> = LazyLock::new(|| {
        let report = Command::new(env!("CARGO_BIN_EXE_tappaas"))
            .args(["doctor", "-o", "json"])
            .output()
            .unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
        let all = |parts: &[&str]| parts.iter().all(|part| report[part]["state"] == "ok");
        let sandboxes = all(&["namespaces", "overlay", "seccomp"]);
        if sandboxes && report["root"] == true && all(&["limits", "network"]) {
            return Isolation::Whole;
        }
        let (isolation, how) = match sandboxes {
            true => (Isolation::Partial, "without limits or networks"),
            false => (Isolation::None, "with `--isolation none`"),
        };
        eprintln!("NOT IN WHOLE SANDBOXES: these instances run {how}; {report}");
        isolation
    });
    *REPORT
}

/// A port that is free, below those that the kernel gives to connections: nobody takes it by chance while a server is away.
fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(100);
    let candidate = || {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        FIRST + u16::try_from(number).unwrap()
    };
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (0..COUNT).map(|_| candidate()).find(free).unwrap()
}

fn content(mut file: File) -> String {
    use std::io::Seek as _;
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A path as an argument.
pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
