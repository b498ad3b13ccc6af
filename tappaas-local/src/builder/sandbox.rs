use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tappaas_core::{
    Digest, Error, Result,
    model::{EnvValue, RestartPolicy},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{BuildLimits, BuildNetwork, log::Log};
use crate::{
    fault::Context as _,
    instance::{Adopted, Instance, Status, Stream, end, run_to_completion},
    network::{Networks, nameservers},
    sandbox::{
        Account, Bind, HostStack, Isolation, Limits, LogLimits, Network, Restart, Root, Spec, Stop,
        User,
    },
};

/// What runs the commands of builds.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) helper: PathBuf,
    pub(super) isolation: Isolation,
    pub(super) networks: Option<Networks>,
    pub(super) pasta: Option<PathBuf>,
    pub(super) network: BuildNetwork,
    pub(super) user: u32,
    pub(super) limits: BuildLimits,
    /// Where the folders of running commands are.
    folder: PathBuf,
    /// Tells the commands of this builder from those of another one on this machine.
    prefix: String,
    count: AtomicU64,
}

/// One command to run.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// Names it in the log.
    pub(super) step: &'a str,
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, EnvValue>,
    pub(super) workdir: PathBuf,
    /// Folders of the machine that are seen inside, and can be written to.
    pub(super) folders: Vec<(PathBuf, PathBuf)>,
    pub(super) deadline: Duration,
}

/// A build's access to the network.
#[derive(Debug)]
pub(super) struct Connection {
    application: String,
    instance: String,
    network: Network,
    address: Option<Ipv4Addr>,
    nameservers: Vec<IpAddr>,
}

/// Of `/tmp`; it counts as memory. Builds are told to use another folder.
const TMP_BYTES: u64 = 64 << 20;

impl Sandbox {
    /// Takes what a builder is given, and cleans up after an earlier one in the same folder.
    pub(super) fn new(
        folder: PathBuf,
        parts: &super::BuilderParts,
        config: &super::BuilderConfig,
    ) -> Self {
        let identity = Digest::of(folder.as_os_str().as_encoded_bytes());
        Self {
            helper: parts.helper.clone(),
            isolation: parts.confines.isolation,
            networks: parts.confines.networks.clone(),
            pasta: parts.confines.pasta.clone(),
            network: config.network,
            user: config.user,
            limits: config.limits,
            prefix: format!("build-{}", &identity.hex()[..8]),
            folder,
            count: AtomicU64::new(0),
        }
    }

    /// Ends the commands that an earlier builder left running when it was killed.
    pub(super) async fn clean_up(&self) -> Result<()> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder);
        made.context(|| format!("create {}", self.folder.display()))?;
        let entries =
            fs::read_dir(&self.folder).context(|| format!("list {}", self.folder.display()))?;
        for entry in entries.flatten() {
            let dir = entry.path();
            end(&dir, Duration::ZERO).await?;
            fs::remove_dir_all(&dir).context(|| format!("delete {}", dir.display()))?;
        }
        Ok(())
    }

    /// Whom the files of a build belong to. `None`: to this process's user, as whom builds run outside.
    pub(super) fn owner(&self) -> Option<u32> {
        (self.isolation == Isolation::Privileged).then_some(self.user)
    }

    /// Builds should reach the outside, and cannot.
    pub(super) fn is_cut_off(&self) -> bool {
        self.network == BuildNetwork::Outside
            && self.isolation == Isolation::Rootless
            && self.pasta.is_none()
    }

    /// Connects a build of an application with what builds can reach.
    pub(super) async fn connect(&self, application: &str) -> Result<Connection> {
        let mut connection = Connection {
            application: format!("build-{application}"),
            instance: format!(
                "{}-{}",
                self.prefix,
                self.count.fetch_add(1, Ordering::Relaxed)
            ),
            network: Network::Private { pasta: None },
            address: None,
            nameservers: nameservers(),
        };
        match (self.network, self.isolation, &self.networks) {
            (_, Isolation::None, _) => {
                return Err(Error::unsupported(
                    "this application has to be built, and nothing is built without a sandbox: `tappaas doctor` says what this machine lacks for one",
                ));
            }
            (BuildNetwork::None, ..) => connection.nameservers.clear(),
            (BuildNetwork::Host, ..) => connection.network = Network::Host,
            (BuildNetwork::Outside, Isolation::Privileged, Some(networks)) => {
                let attachment = networks
                    .attach(&connection.application, &connection.instance)
                    .await?;
                connection.address = Some(attachment.address);
                connection.network = Network::Bridge(attachment);
            }
            (BuildNetwork::Outside, Isolation::Privileged, None) => {
                return Err(Error::unsupported(
                    "builds are to reach the outside, and this builder was given no networks",
                ));
            }
            (BuildNetwork::Outside, Isolation::Rootless, _) => {
                connection.network = Network::Private {
                    pasta: self.pasta.clone(),
                };
            }
        }
        Ok(connection)
    }

    /// Ends what [`Self::connect`] began.
    pub(super) async fn disconnect(&self, connection: &Connection) -> Result<()> {
        match (&connection.network, &self.networks) {
            (Network::Bridge(_), Some(networks)) => {
                networks
                    .detach(&connection.application, &connection.instance)
                    .await
            }
            _ => Ok(()),
        }
    }

    /// Runs a command to its end, or until `cancel`.
    pub(super) async fn run(
        &self,
        stack: &HostStack,
        connection: &Connection,
        job: &Job<'_>,
        log: &Log,
        cancel: &CancellationToken,
    ) -> Result<Status> {
        let id = format!(
            "{}-{}",
            self.prefix,
            self.count.fetch_add(1, Ordering::Relaxed)
        );
        let dir = self.folder.join(&id);
        let spec = self.spec(id, stack, connection, job);
        let (sender, mut lines) = mpsc::channel::<crate::Line>(256);
        let reading = async {
            while let Some(line) = lines.recv().await {
                if line.stream != Stream::Shim {
                    log.write(job.step, line.stream == Stream::Stderr, &line.text);
                }
            }
        };
        let running = async {
            let ended = self.run_or_stop(&dir, &spec, &sender, cancel).await;
            drop(sender);
            ended
        };
        let (ended, ()) = futures::join!(running, reading);
        fs::remove_dir_all(&dir).ok();
        ended
    }

    /// A start cannot be cut short without losing track of what it started, so it is stopped as soon as it is there.
    async fn run_or_stop(
        &self,
        dir: &Path,
        spec: &Spec,
        lines: &mpsc::Sender<crate::Line>,
        cancel: &CancellationToken,
    ) -> Result<Status> {
        const PAUSE: Duration = Duration::from_millis(50);
        let mut running = std::pin::pin!(run_to_completion(&self.helper, dir, spec, lines));
        tokio::select! {
            ended = &mut running => return ended,
            () = cancel.cancelled() => {}
        }
        loop {
            let stopping = async {
                if let Ok(Adopted::Alive(instance)) = Instance::adopt(dir).await {
                    instance.stop(Some(Duration::ZERO)).await.ok();
                }
                tokio::time::sleep(PAUSE).await;
            };
            tokio::select! {
                ended = &mut running => return ended,
                () = stopping => {}
            }
        }
    }

    fn spec(&self, id: String, stack: &HostStack, connection: &Connection, job: &Job<'_>) -> Spec {
        let account = Account {
            id: self.user,
            home: "/scratch",
            hostname: "build",
            address: connection.address,
            nameservers: &connection.nameservers,
        };
        let bind = |(source, target): &(PathBuf, PathBuf)| Bind {
            source: source.clone(),
            target: target.clone(),
            read_only: false,
        };
        let mut binds = stack.binds.clone();
        binds.extend(job.folders.iter().map(bind));
        Spec {
            id,
            isolation: self.isolation,
            user: User::Id(self.user),
            command: job.command.clone(),
            environment: job.environment.clone(),
            workdir: job.workdir.clone(),
            hostname: account.hostname.to_owned(),
            root: Root {
                layers: vec![stack.layer.clone()],
                files: account.files(),
                writable: None,
            },
            binds,
            tmp_bytes: TMP_BYTES,
            limits: Limits {
                memory: Some(self.limits.memory.0),
                cpu_millis: Some(self.limits.cpu.0),
                pids: Some(self.limits.pids),
                yields: true,
            },
            network: connection.network.clone(),
            restart: Restart {
                policy: RestartPolicy::Never,
                ..Restart::default()
            },
            stop: Stop::default(),
            log: LogLimits::default(),
            deadline: Some(job.deadline),
        }
    }
}
