use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command as Process,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use serde_json::json;
use tappaas_core::{
    Clock, Digest, Durable, Ids, Name, Timestamp,
    backend::{
        self, Content, Endpoint, Image, Registry, Scheduler as _, Template, Volume, VolumeId,
        Volumes as _,
    },
    memory,
    model::{Command, Probes, Resources, RestartPolicy, SecretReference, Stop, User},
    placement::Constraints,
};
use tappaas_local::{Scheduler, SchedulerConfig};
use tappaas_testkit::{
    Program,
    conformance::{Failure, scheduler::SchedulerFixture},
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// One scheduler of this machine, in a folder and a range of addresses of its own. What runs is stopped when it is dropped.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) folder: TempDir,
    pub(super) config: SchedulerConfig,
    pub(super) durable: memory::Durable,
    pub(super) registry: memory::Registry,
    pub(super) image: Image,
    scheduler: Mutex<Option<Arc<Scheduler>>>,
    counter: AtomicU32,
}

impl Machine {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(configure: impl FnOnce(&mut SchedulerConfig)) -> Self {
        let folder = tempfile::Builder::new().prefix("tps").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut config = SchedulerConfig::new(folder.path(), env!("CARGO_BIN_EXE_tappaas-helper"));
        config.network.range = range();
        configure(&mut config);
        let registry = memory::Registry::new();
        let machine = Self {
            image: push(&registry, &slug()).await,
            folder,
            config,
            durable: memory::Durable::new(),
            registry,
            scheduler: Mutex::default(),
            counter: AtomicU32::new(0),
        };
        machine.restart().await;
        machine
    }

    /// Lets go of the scheduler and opens another one on the same folder and store, as a restarted server does.
    pub(super) async fn restart(&self) {
        let before = self.scheduler.lock().unwrap().take();
        drop(before);
        let scheduler = open(
            self.config.clone(),
            self.registry.clone(),
            self.durable.clone(),
        )
        .await;
        *self.scheduler.lock().unwrap() = Some(Arc::new(scheduler));
    }

    /// Lets go of the scheduler.
    pub(super) fn close(&self) {
        drop(self.scheduler.lock().unwrap().take());
    }

    pub(super) fn local(&self) -> Arc<Scheduler> {
        Arc::clone(self.scheduler.lock().unwrap().as_ref().unwrap())
    }

    /// A template that runs a script.
    pub(super) fn script(&self, script: impl Into<String>) -> Template {
        Template {
            image: self.image.clone(),
            command: Some(Command::Shell(script.into())),
            environment: BTreeMap::new(),
            ports: Vec::new(),
            resources: Resources::default(),
            probes: Probes::default(),
            stop: Stop::default(),
            restart: RestartPolicy::Never,
            user: User::Unprivileged,
            mounts: Vec::new(),
            peers: Vec::new(),
            placement: Constraints::default(),
        }
    }

    /// Stops everything and lets go of it, as far as a fresh scheduler can know of it.
    pub(super) async fn clean(
        config: SchedulerConfig,
        registry: memory::Registry,
        durable: memory::Durable,
    ) {
        let scheduler = open(config.clone(), registry, durable).await;
        for id in scheduler.list().await.unwrap() {
            scheduler.remove(&id).await.unwrap();
        }
        let subnets = config.data_dir.join("network/subnets");
        let empty = || fs::read_dir(&subnets).map_or(true, |mut entries| entries.next().is_none());
        for _ in 0..3000 {
            if scheduler.list().await.unwrap().is_empty() && empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?} does not go", scheduler.list().await);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.close();
        let (config, registry, durable) = (
            self.config.clone(),
            self.registry.clone(),
            self.durable.clone(),
        );
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(Self::clean(config, registry, durable));
        });
        let cleaned = cleaning.join();
        if !std::thread::panicking() {
            cleaned.unwrap();
        }
    }
}

pub(super) async fn open(
    config: SchedulerConfig,
    registry: memory::Registry,
    durable: memory::Durable,
) -> Scheduler {
    let (registry, durable): (Arc<dyn Registry>, Arc<dyn Durable>) =
        (Arc::new(registry), Arc::new(durable));
    Scheduler::new(config, registry, durable, Arc::new(Real), Arc::new(Unique))
        .await
        .unwrap()
}

#[async_trait]
impl SchedulerFixture for Machine {
    fn scheduler(&self) -> Arc<dyn backend::Scheduler> {
        self.local()
    }

    async fn template(&self, program: &Program) -> Template {
        self.script(script(program))
    }

    async fn get(&self, endpoint: &Endpoint, path: &str) -> Result<String, Failure> {
        let Endpoint::Address(address) = endpoint else {
            return Err(Failure::from(format!("{endpoint:?} is no address")));
        };
        let failed = |error: std::io::Error| Failure::from(format!("{address}: {error}"));
        let asked = async {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream
                .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
                .await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), asked).await;
        let answer = answer
            .unwrap_or_else(|late| Err(late.into()))
            .map_err(failed)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
            _ => Err(Failure::from(format!("{address} answers {answer}"))),
        }
    }

    fn fetch(&self, host: &str, port: u16) -> Vec<String> {
        vec![
            "/app/serve".to_owned(),
            "fetch".to_owned(),
            host.to_owned(),
            port.to_string(),
        ]
    }

    async fn secret(&self, _: &str) -> Option<SecretReference> {
        None
    }

    async fn volume(&self) -> Option<VolumeId> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let id = VolumeId {
            application: "conformance/default/test/app".parse().ok()?,
            name: Name::new(format!("v{number}")).ok()?,
        };
        let volume = Volume {
            id: id.clone(),
            size: None,
        };
        self.local().volumes().apply(&volume).await.unwrap();
        Some(id)
    }
}

/// What the suite's programs are as scripts.
fn script(program: &Program) -> String {
    const SIGNALS: &str = "HUP INT QUIT TERM USR1 USR2";
    let stops = |then: &str| -> String {
        let trap = |name| format!("trap 'echo got SIG{name}; {then} echo bye; exit 0' {name}\n");
        SIGNALS.split(' ').map(trap).collect()
    };
    let idle = "while :; do sleep 1000 & wait $!; done";
    let serve = |port: &str, name: &str, delay: Duration| {
        let delay = delay.as_millis();
        format!("{}/app/serve {port} {name} {delay} & wait $!", stops(""))
    };
    match program {
        Program::Idle => format!("{}{idle}", stops("")),
        Program::Serve { name, latency } => serve("$PORT", name, *latency),
        Program::ServeElsewhere(port) => serve(&port.to_string(), "found", Duration::ZERO),
        Program::PrintVariable(name) => {
            format!("{}printf '%s=%s\\n' {name} \"${name}\"; {idle}", stops(""))
        }
        Program::Exit(code) => format!("echo started; exit {code}"),
        Program::IgnoreStop => format!("trap '' {SIGNALS}\n{idle}"),
        Program::SlowStop(time) => {
            format!("{}{idle}", stops(&format!("sleep {};", time.as_secs_f32())))
        }
        Program::EatMemory => "exec tail /dev/zero".to_owned(),
    }
}

/// A range of addresses for each machine of this run.
fn range() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % 256;
    format!("10.{}.{}.0/20", 192 + number / 16, number % 16 * 16)
}

/// Compiles [`program`](super) once.
fn serve() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scheduler/program.rs");
        let draft =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{}", std::process::id()));
        let compiled = Process::new("rustc")
            .args(["--edition=2024", "-Copt-level=1", "-o"])
            .arg(&draft)
            .arg(source)
            .status();
        assert!(
            compiled.is_ok_and(|status| status.success()),
            "cannot compile the program of the tests"
        );
        draft
    })
}

/// The layer of the tests' image: a program in `/app`.
fn slug() -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    let content = fs::read(serve()).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    archive
        .append_data(&mut header, "app/serve", content.as_slice())
        .unwrap();
    archive.into_inner().unwrap().finish().unwrap()
}

/// Pushes an image of one layer for the stack `host`.
pub(super) async fn push(registry: &memory::Registry, layer: &[u8]) -> Image {
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Labels": { "dev.tappaas.stack": "host" }, "WorkingDir": "/app" },
    });
    let config = config.to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config), "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": Digest::of(layer), "size": layer.len(),
        }],
    });
    let manifest = manifest.to_string();
    let image = Image {
        repository: "programs".parse().unwrap(),
        digest: Digest::of(&manifest),
    };
    let contents = [
        (Content::Blob(Digest::of(layer)), layer.to_vec()),
        (Content::Blob(Digest::of(&config)), config.into_bytes()),
        (
            Content::Manifest(image.digest.clone()),
            manifest.into_bytes(),
        ),
    ];
    for (content, bytes) in contents {
        let bytes = stream::iter([Ok(bytes.into())]).boxed();
        registry
            .push(&image.repository, &content, bytes)
            .await
            .unwrap();
    }
    image
}

/// The time of this machine.
#[derive(Debug)]
struct Real;

#[async_trait]
impl Clock for Real {
    #[expect(
        clippy::disallowed_methods,
        reason = "logs are written by processes with no other clock"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[derive(Debug)]
struct Unique;

impl Ids for Unique {
    fn unique(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        format!(
            "{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        )
    }
}
