use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use sha2::{Digest as _, Sha256};
use tappaas_core::{Error, Result, backend::Exit};
use tokio::{
    net::UnixListener,
    signal::unix::{Signal as SignalStream, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    clock, control, dial,
    handshake::Handshake,
    log::Log,
    machine::{Machine, ended},
    protocol::{CONTROL, DIAL, VERSION},
    record::{Identity, Record, boot_id},
    restart::Restarts,
    signals, starvation,
};
use crate::{
    fault::{Context, Fault},
    instance::{Phase, Status},
    network::DUMMY,
    sandbox::{Cgroup, Extra, Isolation, Layout, Network, Run, Spec, collect_children},
};

/// What a connection asks of the supervisor.
pub(super) enum Command {
    /// Stop for good. Answered once nothing of the process is left.
    Stop {
        grace: Option<Duration>,
        done: oneshot::Sender<()>,
    },
    /// Kill the process for its restart policy to start it again.
    Restart,
    /// Start a further command inside.
    Exec {
        extra: Extra,
        started: oneshot::Sender<Result<Executing>>,
    },
}

/// A further command that runs inside.
pub(super) struct Executing {
    pub(super) run: Run,
    /// The outer end of its terminal.
    pub(super) console: Option<OwnedFd>,
    /// Its place among the processes that are waited for, freed when dropped.
    pub(super) _waited: Waited,
}

/// What connections may look at.
#[derive(Clone)]
pub(super) struct View {
    pub(super) spec: Arc<Spec>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) cgroup: Cgroup,
    pub(super) commands: mpsc::Sender<Command>,
}

/// Runs the shim of the instance in `dir` until there is nothing left to do, and returns the exit code of the shim itself.
pub(super) fn run(dir: &Path) -> i32 {
    // A failure means that this process leads a session already.
    rustix::process::setsid().ok();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // One thread, for sandboxes are cloned from this process. Nothing here may use tokio's pool of blocking threads.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime.and_then(|runtime| runtime.block_on(serve(dir))) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

async fn serve(dir: &Path) -> std::io::Result<()> {
    std::env::set_current_dir(dir)?;
    let _heeded = signals::heed_ignored();
    let mut handshake = Handshake::take()?;
    match Supervisor::start(dir, &mut handshake).await {
        Ok((supervisor, run)) => {
            handshake.started(supervisor.status.borrow().clone()).await;
            supervisor.supervise(run).await;
        }
        Err(error) => handshake.failed(&error).await,
    }
    Ok(())
}

struct Supervisor {
    spec: Arc<Spec>,
    dir: PathBuf,
    machine: Machine,
    record: Mutex<Record>,
    log: Log,
    restarts: Restarts,
    status: watch::Sender<Status>,
    commands: mpsc::Receiver<Command>,
    /// Without one of its own a supervisor whom nobody can ask would be told so without end.
    _asks_itself: mpsc::Sender<Command>,
    connections: JoinSet<()>,
    terminate: SignalStream,
    child: SignalStream,
    waited: WaitList,
    /// How often memory had run out before the process was started; one that is quick has been killed before it is watched.
    oom_kills: u64,
    /// Who waits for the end.
    stopping: Vec<oneshot::Sender<()>>,
}

/// How a run ended, and what follows.
struct End {
    exit: Exit,
    /// Nobody wants it to run any more.
    for_good: bool,
}

impl Supervisor {
    async fn start(dir: &Path, handshake: &mut Handshake) -> Result<(Self, Run)> {
        let spec = Arc::new(handshake.spec().await?);
        let layout = if spec.isolation == Isolation::None {
            Layout::default()
        } else {
            Layout::detect()
        };
        let cgroup = Cgroup::plan(&layout, &group_name(&spec.id, dir), spec.limits.yields);
        let record = new_record(&spec, &cgroup)?;
        // Before anything is made, so that whoever finds this process dead finds what it made too.
        record
            .write(dir)
            .context(|| "write the instance's record".to_owned())?;
        let log = Log::open(dir, spec.log).context(|| "open the log".to_owned())?;
        let machine = Machine::set_up(&spec, dir, &layout, cgroup, handshake).await?;
        let (status, seen) = watch::channel(Status::starting(&spec, machine.enforced()));
        let (sender, commands) = mpsc::channel(64);
        let view = View {
            spec: Arc::clone(&spec),
            status: seen,
            cgroup: machine.cgroup().clone(),
            commands: sender.clone(),
        };
        let mut supervisor = Self {
            restarts: Restarts::new(spec.restart.clone(), &spec.id),
            terminate: signal(SignalKind::terminate()).context(|| "watch signals".to_owned())?,
            child: signal(SignalKind::child()).context(|| "watch signals".to_owned())?,
            spec,
            dir: dir.to_owned(),
            machine,
            record: Mutex::new(record),
            log,
            status,
            commands,
            _asks_itself: sender,
            connections: JoinSet::new(),
            waited: WaitList::default(),
            oom_kills: 0,
            stopping: Vec::new(),
        };
        let begun = supervisor.listen(view);
        let begun = match begun {
            Ok(()) => supervisor.begin().await,
            Err(fault) => Err(fault),
        };
        match begun {
            Ok(run) => Ok((supervisor, run)),
            Err(fault) => {
                let dir = supervisor.dir.clone();
                supervisor.machine.remove().await;
                forget_sockets(&dir);
                Err(fault.into())
            }
        }
    }

    fn listen(&mut self, view: View) -> crate::fault::Result<()> {
        // By short names, for the current folder is the instance's: a socket's path has at most 107 bytes.
        let bind = |name: &str| {
            fs::remove_file(name).ok();
            UnixListener::bind(name)
                .context(|| format!("listen at {}", self.dir.join(name).display()))
        };
        let control = bind(CONTROL)?;
        let address = match &self.spec.network {
            Network::Bridge(attachment) => Some(attachment.address),
            Network::Private { .. } => Some(DUMMY),
            Network::Host => None,
        };
        let dialled = address
            .map(|address| Ok((bind(DIAL)?, address)))
            .transpose()?;
        self.connections.spawn(control::serve(control, view));
        if let Some((listener, address)) = dialled {
            tokio::spawn(dial::serve(listener, address));
        }
        Ok(())
    }

    /// Starts the process.
    async fn begin(&mut self) -> crate::fault::Result<Run> {
        self.oom_kills = self.machine.cgroup().oom_kills();
        let run = self.machine.start(|pid| self.note_process(pid)).await?;
        self.status.send_modify(|status| {
            status.phase = Phase::Running;
            status.pid = Some(run.pid.as_raw_nonzero().get());
            status.started = Some(clock::now());
            status.next_start = None;
        });
        Ok(run)
    }

    fn note_process(&self, pid: Pid) -> crate::fault::Result<()> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.process = Some(Identity::of(pid).context(|| format!("identify process {pid:?}"))?);
        record
            .write(&self.dir)
            .context(|| "write the instance's record".to_owned())
    }

    async fn supervise(mut self, mut run: Run) {
        // Not among the connections, whose end is waited for: this has none.
        let _guard = self.spec.limits.yields.then(|| {
            let cgroup = self.machine.cgroup().clone();
            AbortOnDropHandle::new(tokio::spawn(starvation::prevent(cgroup)))
        });
        loop {
            let began = Instant::now();
            let end = self.watch(&mut run).await;
            self.status.send_modify(|status| {
                status.pid = None;
                status.exit = Some(end.exit.clone());
            });
            if end.for_good {
                break;
            }
            let delay = self.restarts.ended(Some(&end.exit), began.elapsed());
            match self.start_again(&end.exit.to_string(), delay).await {
                Some(next) => run = next,
                None => break,
            }
        }
        self.finish().await;
    }

    /// Waits until it is time, and starts the process; again and again if that fails. `None`: it is not to run any more.
    async fn start_again(&mut self, why: &str, delay: Option<Duration>) -> Option<Run> {
        let mut why = why.to_owned();
        let mut delay = delay;
        loop {
            let Some(wait) = delay else {
                self.log.note(&format!("the process {why}"));
                return None;
            };
            self.log.note(&format!(
                "the process {why}; it is started again in {:.1} s",
                wait.as_secs_f32()
            ));
            let next = clock::now().checked_add(wait).ok();
            self.status.send_modify(|status| {
                status.phase = Phase::Waiting;
                status.restarts = self.restarts.count();
                status.crash_loop = self.restarts.crash_loop();
                status.next_start = next;
            });
            if !self.pause(wait).await {
                return None;
            }
            match self.begin().await {
                Ok(run) => return Some(run),
                Err(fault) => {
                    why = format!(
                        "did not start: {}",
                        tappaas_core::Chain(&Error::from(fault))
                    );
                    delay = self.restarts.ended(None, Duration::ZERO);
                }
            }
        }
    }

    /// Waits while nothing runs. `false`: it was told to stop.
    async fn pause(&mut self, wait: Duration) -> bool {
        let mut until = pin!(tokio::time::sleep(wait));
        loop {
            tokio::select! {
                () = &mut until => return true,
                _ = self.terminate.recv() => return false,
                _ = self.child.recv() => self.collect(),
                command = self.commands.recv() => match command {
                    Some(Command::Stop { done, .. }) => {
                        self.stopping.push(done);
                        return false;
                    }
                    Some(Command::Exec { started, .. }) => {
                        started.send(Err(Error::unavailable("the process is not running now"))).ok();
                    }
                    Some(Command::Restart) | None => return true,
                },
            }
        }
    }

    /// Watches a run until it has ended and nothing of it is left.
    async fn watch(&mut self, run: &mut Run) -> End {
        let _waited = self.waited.add(run.pid);
        let pump = run
            .output
            .take()
            .map(|output| tokio::spawn(self.log.clone().pump(output)));
        let (exit, for_good) = self.until_ended(run).await;
        self.machine.settle(run).await;
        drain(pump).await;
        let memory_ran_out = self.machine.cgroup().oom_kills() > self.oom_kills;
        let exit = Exit {
            out_of_memory: memory_ran_out && exit.code != Some(0),
            ..exit
        };
        End { exit, for_good }
    }

    async fn until_ended(&mut self, run: &Run) -> (Exit, bool) {
        let mut ended = pin!(ended(&run.handle));
        let deadline = self.spec.deadline.map(|deadline| Instant::now() + deadline);
        let mut kill_at: Option<Instant> = None;
        // While it stops: whether what is left would never stop by itself.
        let mut look = tokio::time::interval(Duration::from_millis(20));
        let mut for_good = false;
        loop {
            tokio::select! {
                exit = &mut ended => {
                    let lost = |_| Exit { code: None, signal: None, out_of_memory: false, at: clock::now() };
                    return (exit.unwrap_or_else(lost), for_good);
                }
                () = at(kill_at) => { self.machine.kill(run); kill_at = None; }
                () = at(deadline), if !for_good => {
                    for_good = true;
                    self.expire();
                    self.machine.kill(run);
                }
                _ = look.tick(), if kill_at.is_some() => {
                    if self.machine.is_alone(run, self.stop_signal()) {
                        self.machine.kill(run);
                        kill_at = None;
                    }
                }
                _ = self.child.recv() => self.collect(),
                _ = self.terminate.recv() => {
                    for_good = true;
                    if kill_at.is_none() {
                        kill_at = self.begin_to_stop(run, None);
                    }
                }
                command = self.commands.recv() => match command {
                    Some(Command::Stop { grace, done }) => {
                        self.stopping.push(done);
                        let begun = self.begin_to_stop(run, grace);
                        kill_at = match (kill_at, begun) {
                            (Some(before), Some(now)) => Some(before.min(now)),
                            (_, begun) => begun,
                        };
                        for_good = true;
                    }
                    Some(Command::Restart) => self.machine.kill(run),
                    Some(Command::Exec { extra, started }) => {
                        started.send(self.exec(extra).await).ok();
                    }
                    None => {}
                },
            }
        }
    }

    /// Returns when to kill what is left then; `None` if that is done already.
    fn begin_to_stop(&self, run: &Run, grace: Option<Duration>) -> Option<Instant> {
        self.status
            .send_modify(|status| status.phase = Phase::Stopping);
        if self.machine.signal(run, self.stop_signal()) {
            self.machine.kill(run);
            return None;
        }
        Some(Instant::now() + grace.unwrap_or(self.spec.stop.grace))
    }

    fn stop_signal(&self) -> Signal {
        Signal::from_named_raw(self.spec.stop.signal).unwrap_or(Signal::TERM)
    }

    fn expire(&self) {
        let seconds = self.spec.deadline.unwrap_or_default().as_secs();
        self.status.send_modify(|status| status.expired = true);
        self.log.note(&format!(
            "the process is killed: it ran longer than {seconds} s"
        ));
    }

    /// Collects what nobody waits for: commands that never got as far as being one, and orphans without a sandbox.
    fn collect(&self) {
        collect_children(&self.waited.list());
    }

    async fn exec(&self, extra: Extra) -> Result<Executing> {
        let (run, console) = self.machine.exec(extra).await?;
        let waited = self.waited.add(run.pid);
        Ok(Executing {
            run,
            console,
            _waited: waited,
        })
    }

    async fn finish(mut self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        self.machine.remove().await;
        forget_sockets(&self.dir);
        self.status.send_modify(|status| {
            status.phase = Phase::Ended;
            status.next_start = None;
            status.crash_loop = false;
        });
        let mut record = self
            .record
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        record.ended = Some(self.status.borrow().clone());
        record.process = None;
        // If this fails the shim is found dead without a last word, and reaped.
        record.write(&self.dir).ok();
        for done in self.stopping {
            done.send(()).ok();
        }
        self.commands.close();
        // Connections end by themselves once they have told of the end.
        drop(self.status);
        tokio::time::timeout(PATIENCE, async {
            while self.connections.join_next().await.is_some() {}
        })
        .await
        .ok();
    }
}

/// Other installations on this machine may have an instance of the same name.
fn group_name(id: &str, dir: &Path) -> String {
    let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    format!("{id}-{}", hex::encode(&digest[..4]))
}

fn new_record(spec: &Spec, cgroup: &Cgroup) -> Result<Record> {
    let shim =
        Identity::of(rustix::process::getpid()).context(|| "identify this process".to_owned())?;
    Ok(Record {
        version: VERSION,
        id: spec.id.clone(),
        boot: boot_id().context(|| "identify this boot".to_owned())?,
        shim,
        process: None,
        cgroup: cgroup.clone(),
        link: match &spec.network {
            Network::Bridge(attachment) => Some(attachment.link.clone()),
            Network::Private { .. } | Network::Host => None,
        },
        ended: None,
    })
}

fn forget_sockets(dir: &Path) {
    for name in [CONTROL, DIAL] {
        fs::remove_file(dir.join(name)).ok();
    }
}

/// Whoever writes is gone, so the rest comes at once; unless an orphan without a sandbox has inherited the pipe and left the group.
async fn drain(pump: Option<JoinHandle<()>>) {
    const PATIENCE: Duration = Duration::from_secs(10);
    if let Some(pump) = pump {
        let stop = pump.abort_handle();
        if tokio::time::timeout(PATIENCE, pump).await.is_err() {
            stop.abort();
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The children that somebody waits for by their ids.
#[derive(Clone, Default)]
struct WaitList(Arc<Mutex<Vec<Pid>>>);

impl WaitList {
    fn add(&self, pid: Pid) -> Waited {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(pid);
        Waited(self.clone(), pid)
    }

    fn list(&self) -> Vec<Pid> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A place in the [`WaitList`].
pub(super) struct Waited(WaitList, Pid);

impl Drop for Waited {
    fn drop(&mut self) {
        self.0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|pid| *pid != self.1);
    }
}

impl From<Fault> for std::io::Error {
    fn from(fault: Fault) -> Self {
        Self::other(fault)
    }
}
