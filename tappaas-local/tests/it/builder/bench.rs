//! What every test of the builder needs: a place, a registry, source to upload, and a way to run what was built.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use tappaas_core::{
    Digest, Name, Result,
    backend::{
        BuildId, BuildOutcome, BuildRequest, Builder as _, Content, Registry as _, Repository,
    },
    memory,
    model::{BuildSpec, Command, EnvValue, RestartPolicy, Source},
};
use tappaas_local::{
    Account, BuildNetwork, Builder, BuilderConfig, BuilderParts, Confines, HostStack, Instance,
    Isolation, Network, Restart, Root, Spec, Stop, User,
    archive::{Limits, pack},
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long anything may take before a test gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// A builder's surroundings. They stay while builders on them come and go.
pub(super) struct Bench {
    pub(super) folder: TempDir,
    pub(super) registry: memory::Registry,
    pub(super) parts: BuilderParts,
    pub(super) config: BuilderConfig,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("tpb").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let registry = memory::Registry::new();
        let root = nix::unistd::geteuid().is_root();
        let parts = BuilderParts {
            registry: Arc::new(registry.clone()),
            durable: Arc::new(memory::Durable::new()),
            clock: Arc::new(memory::Clock::new()),
            helper: PathBuf::from(env!("CARGO_BIN_EXE_tappaas-helper")),
            confines: Confines {
                isolation: if root {
                    Isolation::Privileged
                } else {
                    Isolation::Rootless
                },
                networks: None,
                pasta: None,
            },
        };
        let mut config = BuilderConfig::new(folder.path().join("b"));
        config.network = BuildNetwork::None;
        Self {
            folder,
            registry,
            parts,
            config,
        }
    }

    pub(super) async fn builder(&self) -> Builder {
        Builder::open(self.config.clone(), &self.parts)
            .await
            .unwrap()
    }

    /// Packs and uploads files, given by name and content.
    pub(super) async fn upload(&self, files: &[(&str, &str)]) -> Source {
        let folder = TempDir::new().unwrap();
        crate::archive::write(folder.path(), files);
        self.upload_folder(folder.path()).await
    }

    pub(super) async fn upload_folder(&self, folder: &Path) -> Source {
        let mut archive = Vec::new();
        let packed = pack(folder, &[], &Limits::SOURCE, &mut archive).unwrap();
        self.push(&Content::Blob(packed.digest.clone()), archive)
            .await;
        Source::Upload {
            repository: repository(),
            digest: packed.digest,
        }
    }

    pub(super) async fn push(&self, content: &Content, bytes: Vec<u8>) {
        let bytes = stream::iter([Ok(Bytes::from(bytes))]).boxed();
        self.registry
            .push(&repository(), content, bytes)
            .await
            .unwrap();
    }

    pub(super) async fn pull(&self, content: &Content) -> Vec<u8> {
        let chunks: Vec<Bytes> = self
            .registry
            .pull(&repository(), content)
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        chunks.concat()
    }

    /// Builds files with a builder of their own.
    pub(super) async fn build(&self, name: &str, files: &[(&str, &str)]) -> Result<BuildOutcome> {
        let source = self.upload(files).await;
        let builder = self.builder().await;
        let built = builder.build(&request("1", name, source)).await;
        if built.is_err() {
            eprintln!("{}", text(&builder, "1").await);
        }
        builder.close().await;
        built
    }

    /// The configuration of an image.
    pub(super) async fn config_of(&self, built: &BuildOutcome) -> Value {
        let manifest = self.manifest_of(built).await;
        let digest: Digest = manifest["config"]["digest"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        serde_json::from_slice(&self.pull(&Content::Blob(digest)).await).unwrap()
    }

    /// Unpacks the only layer of an image.
    pub(super) async fn layer_of(&self, built: &BuildOutcome) -> TempDir {
        let manifest = self.manifest_of(built).await;
        let digest: Digest = manifest["layers"][0]["digest"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let layer = self.pull(&Content::Blob(digest)).await;
        let folder = tempfile::Builder::new().prefix("tpl").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let archive = folder.path().join("layer.tar.gz");
        fs::write(&archive, layer).unwrap();
        // Links in a layer may lead anywhere, which `unpack` refuses, so another program unpacks it.
        let status = std::process::Command::new("tar")
            .arg("-xzf")
            .arg(&archive)
            .arg("-C")
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(status.success());
        fs::remove_file(archive).unwrap();
        folder
    }

    async fn manifest_of(&self, built: &BuildOutcome) -> Value {
        let manifest = self
            .pull(&Content::Manifest(built.image.digest.clone()))
            .await;
        serde_json::from_slice(&manifest).unwrap()
    }

    /// Runs the image's `web` process in a sandbox, asks it for `path` until it answers, and returns its answer.
    pub(super) async fn serve(&self, built: &BuildOutcome, path: &str) -> String {
        let layer = self.layer_of(built).await;
        let config = self.config_of(built).await["config"].clone();
        let on_stack = config["Labels"]["dev.tappaas.stack"] == "host";
        let stack =
            HostStack::prepare(&self.folder.path().join("s"), &self.config.toolchains).unwrap();
        let spec = spec(&self.parts, &stack, layer.path(), on_stack, &config);
        let dir = self.folder.path().join("i");
        let instance = Instance::start(&self.parts.helper, &dir, &spec)
            .await
            .unwrap();
        let asked = async {
            loop {
                if let Ok(answer) = ask(&instance, path).await {
                    return answer;
                }
                let status = instance.status().await.unwrap();
                assert!(
                    status.exit.is_none(),
                    "{:?} {}",
                    status.exit,
                    fs::read_to_string(dir.join("log")).unwrap()
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        instance.remove().await.unwrap();
        answer.unwrap()
    }
}

fn spec(
    parts: &BuilderParts,
    stack: &HostStack,
    layer: &Path,
    on_stack: bool,
    config: &Value,
) -> Spec {
    let words = |value: &Value| -> Vec<String> {
        let words = serde_json::from_value::<Option<_>>(value.clone());
        words.unwrap().unwrap_or_default()
    };
    let variables = words(&config["Env"]);
    let mut environment: std::collections::BTreeMap<_, _> = variables
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, value)| (name.to_owned(), EnvValue::new(value)))
        .collect();
    environment.insert("PORT".to_owned(), EnvValue::new("8080"));
    let account = Account {
        id: 20_002,
        home: "/tmp",
        hostname: "web",
        address: None,
        nameservers: &[],
    };
    let mut layers = vec![layer.to_owned()];
    layers.extend(on_stack.then(|| stack.layer.clone()));
    Spec {
        id: "built".to_owned(),
        isolation: parts.confines.isolation,
        user: User::Id(account.id),
        command: [words(&config["Entrypoint"]), words(&config["Cmd"])].concat(),
        environment,
        workdir: config["WorkingDir"].as_str().unwrap().into(),
        hostname: "web".to_owned(),
        root: Root {
            layers,
            files: if on_stack {
                account.files()
            } else {
                account.network_files()
            },
            writable: None,
        },
        binds: if on_stack {
            stack.binds.clone()
        } else {
            Vec::new()
        },
        tmp_bytes: 16 << 20,
        limits: tappaas_local::Limits {
            memory: Some(512 << 20),
            cpu_millis: None,
            pids: Some(256),
            yields: false,
        },
        network: Network::Private { pasta: None },
        restart: Restart {
            policy: RestartPolicy::Never,
            ..Restart::default()
        },
        stop: Stop::default(),
        log: tappaas_local::LogLimits::default(),
        deadline: None,
    }
}

async fn ask(instance: &Instance, path: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut stream = instance.connect_to(8080).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.is_empty() {
        Err("no answer".into())
    } else {
        Ok(answer)
    }
}

pub(super) fn repository() -> Repository {
    "default/default/production/app".parse().unwrap()
}

pub(super) fn id(id: &str) -> BuildId {
    BuildId(id.to_owned())
}

pub(super) fn request(id: &str, name: &str, source: Source) -> BuildRequest {
    BuildRequest {
        id: self::id(id),
        source,
        spec: BuildSpec {
            name: name.to_owned(),
            ..BuildSpec::default()
        },
        repository: repository(),
    }
}

/// A request whose build is a line for the shell.
pub(super) fn shell(id: &str, source: Source, line: &str) -> BuildRequest {
    let mut request = request(id, "app", source);
    request.spec.command = Some(Command::Shell(line.to_owned()));
    request
}

/// The whole log of a build that ended.
pub(super) async fn text(builder: &Builder, build: &str) -> String {
    let lines = builder.logs(&id(build), true).await.unwrap();
    let lines: Vec<_> = lines.try_collect().await.unwrap();
    lines
        .into_iter()
        .map(|line| format!("{}: {}\n", line.origin, line.text))
        .collect()
}

pub(super) fn web(built: &BuildOutcome) -> &Command {
    &built.processes[&Name::new("web").unwrap()]
}

/// The first of these programs that the stack lacks.
pub(super) fn lacks<'a>(toolchains: &[PathBuf], programs: &[&'a str]) -> Option<&'a str> {
    let folder = TempDir::new().unwrap();
    let stack = HostStack::prepare(folder.path(), toolchains).unwrap();
    programs.iter().find(|program| !stack.has(program)).copied()
}

/// Waits until `condition` holds.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not in time: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
