use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tappaas_core::{
    Digest, Error, ErrorKind, Name, Result,
    backend::{BuildOutcome, Image, Repository},
    model::{Command, EnvValue, Source, Strategy},
};
use tokio::time::Instant;

use super::{
    alone,
    detect::{FILE_SERVER, Ground, Listing, Plan, Step, Wishes, decide, web},
    disk::Disk,
    fit,
    image::{self, Slug},
    room,
    run::Run,
    sandbox::{Connection, Job, Sandbox},
    site::Site,
    source,
};
use crate::{
    archive::{Limits, Packed, Tree, display_bytes, display_path, pack_layer},
    fault::Context as _,
    fileserver,
    image::labels,
    instance::Status,
    sandbox::HostStack,
};

/// What was built, before it is an image.
struct Made {
    plan: Plan,
    layer: Packed,
}

/// Everything that the thread of a build needs.
struct Task {
    run: Arc<Run>,
    sandbox: Arc<Sandbox>,
    stack: Arc<HostStack>,
    environment: BTreeMap<String, EnvValue>,
    /// The application's disk.
    place: PathBuf,
    archive: PathBuf,
    layer: PathBuf,
}

/// Does what a run is for.
pub(super) async fn work(site: &Site, run: &Arc<Run>) -> Result<BuildOutcome> {
    let request = &run.request;
    match &request.source {
        Source::Image { reference, image } => {
            run.log.write("build", false, &format!("taking {image}"));
            let image = image::copy(&*site.registry, image, &request.repository).await?;
            Ok(outcome(
                image,
                BTreeMap::new(),
                format!("image {reference}"),
            ))
        }
        Source::Upload { repository, digest } => build(site, run, repository, digest).await,
        Source::Git { .. } => Err(Error::unsupported(
            "this builder does not fetch from git: upload the source instead",
        )),
        Source::Reference(name) => Err(Error::internal(format!(
            "nobody found out which image `{name}` means before it was asked for"
        ))),
    }
}

/// Refuses what this builder cannot do, before anything is done.
pub(super) fn check(
    source: &Source,
    strategy: Option<Strategy>,
    stack: Option<&str>,
    known: &[&str],
) -> Result<()> {
    if let Some(stack) = stack.filter(|stack| !known.contains(stack)) {
        return Err(Error::invalid(format!(
            "there is no stack `{stack}` here; there is `{}`, and images as stacks are not supported yet",
            known.join("`, `")
        )));
    }
    match (source, strategy) {
        (Source::Image { .. } | Source::Reference(_), Some(Strategy::Stack)) => Err(
            Error::invalid("the strategy `stack` builds source, and an image was given"),
        ),
        (Source::Upload { .. } | Source::Git { .. }, Some(Strategy::Image)) => Err(Error::invalid(
            "the strategy `image` takes an image, and source was given: deploy with --image",
        )),
        _ => Ok(()),
    }
}

async fn build(
    site: &Site,
    run: &Arc<Run>,
    repository: &Repository,
    digest: &Digest,
) -> Result<BuildOutcome> {
    let stack = site.look().await?;
    let target = &run.request.repository;
    let application = site.application(target);
    let files = [".source", ".layer"].map(|end| site.temporary(run, end));
    let [archive, layer] = &files;
    run.log.write(
        "build",
        false,
        &format!("fetching source {}", digest.short()),
    );
    let fetched = source::fetch(&*site.registry, repository, digest, archive).await;
    if fetched.is_err() {
        fs::remove_file(archive).ok();
    }
    fetched?;
    let task = Task {
        run: Arc::clone(run),
        sandbox: Arc::clone(&site.sandbox),
        stack: Arc::clone(&stack),
        environment: site.config.environment.clone(),
        place: site.disks().join(&application),
        archive: archive.clone(),
        layer: layer.clone(),
    };
    let apart = site.sandbox.owner().is_some();
    let made = room::run(apart, move || task.make(application)).await;
    fs::remove_file(archive).ok();
    let image = match &made {
        Ok(made) => push(site, run, made, layer, &stack).await,
        Err(_) => Err(Error::internal("there is no layer to push")),
    };
    fs::remove_file(layer).ok();
    let (Made { plan, .. }, image) = (made?, image?);
    let on_stack = plan.ground == Ground::Stack;
    Ok(BuildOutcome {
        stack: on_stack.then(|| format!("{}@{}", labels::HOST, stack.fingerprint)),
        ..outcome(image, plan.processes, plan.detected)
    })
}

pub(super) fn outcome(
    image: Image,
    processes: BTreeMap<Name, Command>,
    detected: String,
) -> BuildOutcome {
    BuildOutcome {
        image,
        processes,
        detected,
        stack: None,
        cached: false,
    }
}

async fn push(
    site: &Site,
    run: &Run,
    made: &Made,
    layer: &Path,
    stack: &HostStack,
) -> Result<Image> {
    let Made {
        plan,
        layer: packed,
    } = made;
    let on_stack = plan.ground == Ground::Stack;
    let mut environment = BTreeMap::from([("HOME", "/tmp".to_owned())]);
    if on_stack {
        environment.insert("PATH", [&plan.path[..], &[&stack.path]].concat().join(":"));
        environment.extend(
            plan.environment
                .iter()
                .map(|(name, value)| (*name, value.clone())),
        );
    }
    let slug = Slug {
        layer: packed,
        file: layer,
        processes: &plan.processes,
        environment,
        stack: on_stack.then_some((labels::HOST, &stack.fingerprint)),
        alone: plan.ground == Ground::Alone,
    };
    let repository = &run.request.repository;
    let digest = slug.push(&*site.registry, repository).await?;
    run.log.write(
        "build",
        false,
        &format!(
            "pushed {repository}@{digest}, {}",
            display_bytes(packed.size)
        ),
    );
    Ok(Image {
        repository: repository.clone(),
        digest,
    })
}

impl Task {
    async fn make(self, application: String) -> Result<Made> {
        let disk = Disk::open(
            &self.place,
            self.sandbox.limits.disk.0,
            self.sandbox.owner(),
        )
        .await?;
        let made = self.make_on(&disk, &application).await;
        // A cache that is lost slows down the next build, and fails none.
        if let Err(error) = disk.close().await {
            tracing::warn!(error = %tappaas_core::Chain(&error), application, "cannot put a build's disk away");
        }
        made
    }

    async fn make_on(&self, disk: &Disk, application: &str) -> Result<Made> {
        let app = disk.folder().join(Disk::APP);
        let unpacked =
            source::unpack_into(&self.archive, &app, self.sandbox.owner()).map_err(|error| {
                match error.kind() {
                    ErrorKind::Exhausted if disk.is_full() => Error::exhausted(format!(
                        "the source does not fit into the limit of {} of disk space for builds",
                        display_bytes(disk.size())
                    )),
                    _ => error,
                }
            })?;
        let message = format!(
            "unpacked {} files and folders, {}",
            unpacked.entries,
            display_bytes(unpacked.bytes)
        );
        self.note(&message);
        let mut plan = self.plan(&app)?;
        self.note(&format!("detected {}", plan.detected));
        if !plan.steps.is_empty() {
            self.take_steps(&plan, disk, application).await?;
        }
        let folder = self.settle(&mut plan, &app)?;
        if self.run.cancel.is_cancelled() {
            return Err(cancelled());
        }
        let layer = self.pack(&app, folder)?;
        Ok(Made { plan, layer })
    }

    fn plan(&self, app: &Path) -> Result<Plan> {
        let listing = Listing::read(app).context(|| format!("list {}", app.display()))?;
        let spec = &self.run.request.spec;
        let wishes = Wishes {
            name: &spec.name,
            command: spec.command.as_ref(),
            explicit: spec.strategy == Some(Strategy::Stack),
            alone: spec.stack.as_deref() == Some(labels::SCRATCH),
        };
        let plan = decide(&listing, &wishes)?;
        if let Some(tool) = plan.tools.iter().find(|tool| !self.stack.has(tool.program)) {
            return Err(Error::invalid(format!(
                "this application needs {}, which the stack `{}` does not have: install it on this machine, or name the folder that it is installed in under `toolchains` of the builder's configuration",
                tool.shown,
                labels::HOST
            )));
        }
        Ok(plan)
    }

    async fn take_steps(&self, plan: &Plan, disk: &Disk, application: &str) -> Result<()> {
        fit::check(&self.sandbox.limits, &self.place)?;
        let connection = self.sandbox.connect(application).await?;
        if self.sandbox.is_cut_off() {
            self.note("builds cannot reach package registries here: `tappaas doctor` says why, and what helps");
        }
        let deadline = Instant::now() + Duration::from_secs(self.sandbox.limits.time.0.into());
        let mut done = Ok(());
        for step in &plan.steps {
            done = self.take(step, plan, disk, &connection, deadline).await;
            if done.is_err() {
                break;
            }
        }
        let disconnected = self.sandbox.disconnect(&connection).await;
        done.and(disconnected)
    }

    async fn take(
        &self,
        step: &Step,
        plan: &Plan,
        disk: &Disk,
        connection: &Connection,
        deadline: Instant,
    ) -> Result<()> {
        let inside = |name: &str| (disk.folder().join(name), Path::new("/").join(name));
        let job = Job {
            step: step.name,
            command: step.command.argv(),
            environment: self.environment(plan),
            workdir: PathBuf::from("/app"),
            folders: [Disk::APP, Disk::CACHE, Disk::SCRATCH].map(inside).to_vec(),
            deadline: deadline.saturating_duration_since(Instant::now()),
        };
        if job.deadline.is_zero() {
            return Err(self.out_of_time(step));
        }
        self.run
            .log
            .begin_step(&format!("$ {}", shown(&step.command)));
        let overflow = self.run.cancel.child_token();
        let watching = async {
            disk.overflow().await;
            overflow.cancel();
            std::future::pending::<()>().await;
        };
        let running = self
            .sandbox
            .run(&self.stack, connection, &job, &self.run.log, &overflow);
        let status = tokio::select! {
            status = running => status?,
            () = watching => return Err(Error::internal("watching a disk never ends")),
        };
        self.judge(step, &status, disk, overflow.is_cancelled())
    }

    /// Tells how a step ended, and which limit was to blame if it failed.
    fn judge(&self, step: &Step, status: &Status, disk: &Disk, stopped: bool) -> Result<()> {
        let limits = &self.sandbox.limits;
        let Some(exit) = &status.exit else {
            return Err(Error::internal(format!(
                "it is not known how `{}` ended",
                step.name
            )));
        };
        let exceeded = |what: String| {
            Err(Error::exhausted(format!(
                "`{}` exceeded the limit of {what} for builds",
                step.name
            )))
        };
        if self.run.cancel.is_cancelled() {
            return Err(cancelled());
        }
        if status.expired {
            return Err(self.out_of_time(step));
        }
        if (stopped || !exit.success())
            && let Some(error) = disk.machine_is_full()
        {
            return Err(error);
        }
        if stopped || (!exit.success() && disk.is_full()) {
            return exceeded(format!("{} of disk space", display_bytes(disk.size())));
        }
        if exit.success() || step.optional && !exit.out_of_memory {
            return Ok(());
        }
        if exit.out_of_memory {
            return exceeded(format!("{} of memory", display_bytes(limits.memory.0)));
        }
        let last = self.run.log.last();
        // The kernel counts refused processes, but what asked for them tells it in words alone.
        if [
            "Resource temporarily unavailable",
            "Cannot fork",
            "pthread_create failed",
            "EAGAIN",
        ]
        .iter()
        .any(|sign| last.contains(sign))
        {
            return exceeded(format!("{} processes and threads", limits.pids));
        }
        let last = match last.as_str() {
            "" => String::new(),
            last => format!(": {last}"),
        };
        Err(Error::invalid(format!("`{}` {exit}{last}", step.name)))
    }

    fn out_of_time(&self, step: &Step) -> Error {
        let seconds = self.sandbox.limits.time.0;
        Error::exhausted(format!(
            "`{}` did not end within the limit of {seconds} seconds for builds",
            step.name
        ))
    }

    fn environment(&self, plan: &Plan) -> BTreeMap<String, EnvValue> {
        let mut environment: BTreeMap<String, EnvValue> = BTreeMap::new();
        let mut set =
            |name: &str, value: &str| environment.insert(name.to_owned(), EnvValue::new(value));
        // The stack's programs come first: those in the application may not be there yet, or be made to run without them.
        set(
            "PATH",
            &[&[self.stack.path.as_str()][..], &plan.path]
                .concat()
                .join(":"),
        );
        for (name, value) in ENVIRONMENT {
            set(name, value);
        }
        for (name, value) in &plan.environment {
            set(name, value);
        }
        environment.extend(self.environment.clone());
        environment
    }

    /// Completes the plan with what is known after the build, and returns the folder of the application that the image is made of.
    fn settle(&self, plan: &mut Plan, app: &Path) -> Result<&'static str> {
        // A build may have put anything in the place of a folder: nothing is followed out of the application.
        let real = |folder: &str| {
            app.join(folder)
                .symlink_metadata()
                .is_ok_and(|found| found.is_dir())
        };
        let folder = match plan.ground {
            Ground::Stack => return Ok(""),
            Ground::Alone => return alone::check(app).map(|()| alone::FOLDER),
            Ground::FileServer { folder } => Some(folder).filter(|folder| real(folder)),
            Ground::Built => {
                let has_index = |folder: &&str| app.join(folder).join("index.html").is_file();
                ["dist", "build", "out", "public"]
                    .into_iter()
                    .filter(|folder| real(folder))
                    .find(has_index)
            }
        };
        let folder = folder.ok_or_else(|| {
            Error::invalid(
                "cannot tell what to serve: there is no `start` script and no server.js, and the build left no index.html in dist, build, out or public",
            )
        })?;
        // Only a server that needs the stack's C library takes the site there.
        plan.ground = match fileserver::stands_alone() {
            true => Ground::FileServer { folder },
            false => Ground::Stack,
        };
        plan.processes = web(Command::Exec(vec![FILE_SERVER.to_owned(), ".".to_owned()]));
        self.add_file_server(&app.join(folder))?;
        Ok(folder)
    }

    fn add_file_server(&self, site: &Path) -> Result<()> {
        let name = Path::new(FILE_SERVER);
        let added = Tree::open(site, None)
            .and_then(|mut tree| tree.file(name, true)?.write_all(fileserver::PROGRAM));
        added.map_err(|error| {
            Error::invalid(format!("cannot add {} to the site", name.display())).with_source(error)
        })
    }

    fn pack(&self, app: &Path, folder: &str) -> Result<Packed> {
        let file =
            File::create(&self.layer).context(|| format!("create {}", self.layer.display()))?;
        let out = BufWriter::with_capacity(256 << 10, file);
        let place = match folder {
            alone::FOLDER => Path::new("app").join(folder),
            _ => PathBuf::from("app"),
        };
        let packed = pack_layer(&app.join(folder), &place, &Limits::LAYER, out)?;
        for path in &packed.skipped {
            self.note(&format!(
                "left out {}: it is neither a file nor a folder nor a link",
                display_path(path)
            ));
        }
        Ok(packed)
    }

    fn note(&self, text: &str) {
        self.run.log.write("build", false, text);
    }
}

/// The environment of every step. Times are fixed, for some tools write them into their output; 1980 is the first year that a zip file knows.
const ENVIRONMENT: [(&str, &str); 21] = [
    ("CI", "true"),
    ("LANG", "C.UTF-8"),
    ("TZ", "UTC"),
    ("HOME", "/scratch"),
    ("TMPDIR", "/scratch"),
    ("XDG_CACHE_HOME", "/cache/xdg"),
    ("SOURCE_DATE_EPOCH", "315532800"),
    ("CARGO_HOME", "/cache/cargo"),
    ("CARGO_TARGET_DIR", "/cache/target"),
    ("GOCACHE", "/cache/go-build"),
    ("GOFLAGS", "-modcacherw"),
    ("GOMODCACHE", "/cache/go-mod"),
    ("GOPATH", "/cache/go"),
    ("PIP_CACHE_DIR", "/cache/pip"),
    ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ("PIP_NO_INPUT", "1"),
    ("PIP_PROGRESS_BAR", "off"),
    ("PYTHONHASHSEED", "0"),
    ("npm_config_cache", "/cache/npm"),
    ("npm_config_update_notifier", "false"),
    ("npm_config_fund", "false"),
];

fn cancelled() -> Error {
    Error::conflict("the build was cancelled")
}

fn shown(command: &Command) -> String {
    match command {
        Command::Shell(line) => line.clone(),
        Command::Exec(argv) => argv.join(" "),
    }
}
