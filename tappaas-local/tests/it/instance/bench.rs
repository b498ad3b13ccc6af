//! What every test of instances needs: a place, a helper program, a spec to change, and a look at what is left behind.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tappaas_core::model::EnvValue;
use tappaas_local::{
    Account, HostStack, Instance, Isolation, Limits, Line, LogLimits, LogReader, Network, Phase,
    Restart, Root, Spec, Status, Stop, User,
};
use tempfile::TempDir;
use tokio::sync::watch;

/// How long anything may take before a test gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The variable with the helper program that a run of these tests as another user is given.
pub(super) const HELPER: &str = "SHARED_HELPER";

/// A folder of its own on this machine, by which all that belongs to it is told from what others have.
pub(super) struct Bench {
    folder: TempDir,
    stack: HostStack,
    tag: String,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("tpt").tempdir().unwrap();
        let name = folder.path().file_name().unwrap().to_str().unwrap();
        let tag = name
            .to_lowercase()
            .replace(|letter: char| !letter.is_ascii_alphanumeric(), "0");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let stack = HostStack::prepare(&folder.path().join("stack"), &[]).unwrap();
        Self { folder, stack, tag }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn dir(&self, id: &str) -> PathBuf {
        self.folder.path().join(id)
    }

    /// A process on the host stack, with a network of its own and nothing unusual.
    pub(super) fn spec(&self, id: &str, script: &str) -> Spec {
        let root = nix::unistd::geteuid().is_root();
        let account = Account {
            id: 20_001,
            home: "/tmp",
            hostname: "box",
            address: None,
            nameservers: &[IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53))],
        };
        let environment = BTreeMap::from([
            ("PATH", self.stack.path.as_str()),
            ("TOKEN", "canary-7f3a"),
            ("BENCH", self.path().to_str().unwrap()),
        ]);
        Spec {
            id: format!("{}-{id}", self.tag),
            isolation: if root {
                Isolation::Privileged
            } else {
                Isolation::Rootless
            },
            user: User::Id(account.id),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            environment: environment
                .into_iter()
                .map(|(name, value)| (name.to_owned(), EnvValue::new(value)))
                .collect(),
            workdir: "/tmp".into(),
            hostname: "box".to_owned(),
            root: Root {
                layers: vec![self.stack.layer.clone()],
                files: account.files(),
                writable: None,
            },
            binds: self.stack.binds.clone(),
            tmp_bytes: 16 << 20,
            limits: Limits {
                memory: Some(256 << 20),
                cpu_millis: Some(1_000),
                pids: Some(64),
                yields: false,
            },
            network: Network::Private { pasta: None },
            restart: Restart {
                policy: tappaas_core::model::RestartPolicy::Never,
                delay_min: Duration::from_millis(20),
                delay_max: Duration::from_millis(200),
                ..Restart::default()
            },
            stop: Stop::default(),
            log: LogLimits::default(),
            deadline: None,
        }
    }

    /// The helper program, in a place where every user may execute it.
    pub(super) fn helper(&self) -> PathBuf {
        match std::env::var_os(HELPER) {
            Some(shared) => shared.into(),
            None => self.share(Path::new(env!("CARGO_BIN_EXE_tappaas-helper"))),
        }
    }

    /// Makes a program executable for every user.
    pub(super) fn share(&self, program: &Path) -> PathBuf {
        let shared = self.path().join(program.file_name().unwrap());
        if !shared.exists() && fs::hard_link(program, &shared).is_err() {
            // By another process: what a test beside this one starts at this moment would inherit the file, open for writing, and
            // until it lets go nobody could execute it.
            let copied = Command::new("cp").arg(program).arg(&shared).status();
            assert!(copied.unwrap().success());
        }
        shared
    }

    /// The name that [`Bench::spec`] was called with.
    pub(super) fn short<'a>(&self, spec: &'a Spec) -> &'a str {
        spec.id.split_once('-').unwrap().1
    }

    pub(super) async fn start(&self, spec: &Spec) -> Instance {
        Instance::start(&self.helper(), &self.dir(self.short(spec)), spec)
            .await
            .unwrap()
    }

    /// Runs a script to its end and returns what it printed and how it ended.
    pub(super) async fn run(&self, spec: &Spec) -> (String, Status) {
        let instance = self.start(spec).await;
        let status = wait_for(&mut instance.subscribe().await.unwrap(), |status| {
            status.phase == Phase::Ended
        })
        .await;
        let output = output(instance.dir());
        instance.remove().await.unwrap();
        (output, status)
    }

    /// Fails if anything on this machine is left of this bench's instances.
    pub(super) async fn check_census(self) {
        until("nothing is left behind", || async {
            self.census().is_empty()
        })
        .await
        .unwrap_or_else(|_| panic!("left behind: {:#?}", self.census()));
    }

    /// Processes, mounts and control groups of this bench's instances. Others may run theirs on this machine at the same time.
    fn census(&self) -> Vec<String> {
        let trace = self.path().to_str().unwrap();
        let mut found = Vec::new();
        for process in names("/proc").filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        {
            let read = |file: &str| {
                String::from_utf8_lossy(
                    &fs::read(format!("/proc/{process}/{file}")).unwrap_or_default(),
                )
                .into_owned()
            };
            let (line, group) = (read("cmdline"), read("cgroup"));
            if [&line, &read("environ"), &group]
                .iter()
                .any(|text| text.contains(trace) || text.contains(self.tag()))
            {
                found.push(format!("process {process} {line}"));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(
            mounts
                .lines()
                .filter(|line| line.contains(trace))
                .map(|line| format!("mount {line}")),
        );
        for hierarchy in std::iter::once(String::new()).chain(names("/sys/fs/cgroup")) {
            let groups = names(&format!("/sys/fs/cgroup/{hierarchy}/tappaas"));
            found.extend(
                groups
                    .filter(|name| name.contains(self.tag()))
                    .map(|name| format!("control group {hierarchy} {name}")),
            );
        }
        found
    }

    /// What the names of this bench's instances start with.
    fn tag(&self) -> &str {
        &self.tag
    }
}

/// A test that fails leaves nothing behind either.
impl Drop for Bench {
    fn drop(&mut self) {
        let dirs: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        let dirs = dirs
            .into_iter()
            .filter(|dir| dir.join("instance.json").exists());
        for dir in dirs {
            signal_shim(&dir, Signal::KILL);
            // The runtime of the test may be at its end already.
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                let gone = || async { tappaas_local::reap(&dir).await.is_ok() };
                runtime
                    .block_on(until("a left instance is gone", gone))
                    .ok();
            })
            .join()
            .ok();
        }
    }
}

/// Sends a signal to the shim of the instance in `dir`, unless it has ended.
pub(super) fn signal_shim(dir: &Path, signal: Signal) {
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("instance.json")).unwrap()).unwrap();
    if record["ended"].is_null() {
        let pid = i32::try_from(record["shim"]["pid"].as_i64().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).ok();
    }
}

/// Everything the instance wrote, without what the shim noted.
pub(super) fn output(dir: &Path) -> String {
    let lines = lines(dir)
        .into_iter()
        .filter(|line| line.stream != tappaas_local::Stream::Shim);
    lines
        .map(|line| line.text + if line.whole { "\n" } else { "" })
        .collect()
}

/// Every line of the instance's log.
pub(super) fn lines(dir: &Path) -> Vec<Line> {
    let mut reader = LogReader::open(dir);
    let mut all = Vec::new();
    loop {
        let lines = reader.read().unwrap();
        if lines.is_empty() {
            return all;
        }
        all.extend(lines);
    }
}

/// Waits for a status.
pub(super) async fn wait_for(
    status: &mut watch::Receiver<Status>,
    wanted: impl FnMut(&Status) -> bool,
) -> Status {
    let found = tokio::time::timeout(PATIENCE, status.wait_for(wanted)).await;
    found
        .expect("the status comes in time")
        .expect("the instance is watched")
        .clone()
}

/// Waits until the instance has written `text`.
pub(super) async fn wait_for_output(dir: &Path, text: &str) {
    let written = || async { output(dir).contains(text) };
    until(text, written)
        .await
        .unwrap_or_else(|_| panic!("{text:?} is not in {:?}", output(dir)));
}

/// Waits until `condition` holds.
pub(super) async fn until<F: Future<Output = bool>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        if tokio::time::Instant::now() > deadline {
            return Err(format!("not in time: {what}"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Says so, and returns true, if this test cannot test anything here.
#[expect(clippy::print_stderr, reason = "what is not tested must be seen")]
pub(super) fn needs_root(test: &str) -> bool {
    let plain = !nix::unistd::geteuid().is_root();
    if plain {
        eprintln!("!!! NOT TESTED, FOR IT NEEDS ROOT: {test}");
    }
    plain
}

fn names(folder: &str) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}
