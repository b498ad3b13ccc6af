use std::{
    fs,
    io::{self, PipeReader, PipeWriter},
    os::fd::{AsFd, OwnedFd},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use libcontainer::{
    container::{Container as Runtime, builder::ContainerBuilder},
    oci_spec::runtime::Process,
    syscall::syscall::SyscallType,
};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid,
};
use tokio::{io::Interest, net::unix::pipe};

use super::{executor::Launch, oci, rootfs};
use crate::{
    fault::{Context, Fault, Result},
    sandbox::{Cgroup, Filter, Spec, User},
    watched::watch,
};

/// A sandbox of the calling process, which must be single-threaded: the runtime clones it without executing another program.
pub(crate) struct Container {
    spec: Arc<Spec>,
    dir: PathBuf,
    filter: Arc<Filter>,
    doors: Arc<Vec<OwnedFd>>,
}

/// A process that was started.
pub(crate) struct Run {
    /// Its id, as the shim sees it.
    pub(crate) pid: Pid,
    /// Refers to it for as long as it is open, even when the id is used again.
    pub(crate) handle: OwnedFd,
    /// What it writes, if the shim reads that.
    pub(crate) output: Option<Output>,
}

/// What a process writes.
pub(crate) struct Output {
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
}

/// A further command inside.
pub(crate) struct Extra {
    pub(crate) command: Vec<String>,
    pub(crate) workdir: PathBuf,
    pub(crate) streams: StandardStreams,
}

/// Where a further command reads and writes.
pub(crate) enum StandardStreams {
    /// Standard input, output and error.
    Files([OwnedFd; 3]),
    /// A terminal made inside, of so many columns and rows.
    Terminal((u16, u16)),
}

/// The runtime's name for the one container of an instance.
const NAME: &str = "c";

/// Execution follows the start signal at once; only a machine in trouble takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

impl Container {
    /// Mounts the root file system and writes the container's description into the instance's folder `dir`.
    ///
    /// The namespaces of [`super::namespaces::enter`] must be entered already. Without a working system call filter nothing starts.
    pub(crate) fn prepare(
        spec: &Arc<Spec>,
        dir: &Path,
        cgroup: &Cgroup,
        doors: Arc<Vec<OwnedFd>>,
    ) -> Result<Self> {
        let filter = Filter::compile()
            .map_err(|error| Fault::runtime("compile the system call filter", error))?;
        let root = rootfs::mount_root(spec, dir)?;
        let limits_shown = cgroup.shows_limits() && matches!(spec.user, User::Id(_));
        let oci = oci::container(spec, &root, cgroup.below_unified().as_deref(), limits_shown)
            .map_err(|error| Fault::runtime("describe the container", error))?;
        let bundle = dir.join("bundle");
        fs::create_dir_all(&bundle).context(|| format!("create {}", bundle.display()))?;
        oci.save(bundle.join("config.json"))
            .map_err(|error| Fault::runtime("write the container's description", error))?;
        Ok(Self {
            spec: Arc::clone(spec),
            dir: dir.to_owned(),
            filter: Arc::new(filter),
            doors,
        })
    }

    /// Creates the container and lets it run once `record` has noted its first process.
    pub(crate) async fn start(&self, record: impl FnOnce(Pid) -> Result<()>) -> Result<Run> {
        self.forget();
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        let (failure, failure_end) = pipe()?;
        let launch = self.launch(self.spec.command.clone(), failure_end);
        let mut runtime = self
            .builder(launch)?
            .with_stdin(null()?)
            .with_stdout(stdout_end)
            .with_stderr(stderr_end)
            .as_init(self.dir.join("bundle"))
            .with_systemd(false)
            .build()
            .map_err(|error| Fault::runtime("create the container", error))?;
        let run = self.let_run(&mut runtime, record).await?;
        let run = executed(run, failure, PATIENCE).await?;
        Ok(Run {
            output: Some(Output {
                stdout: receiver(stdout)?,
                stderr: receiver(stderr)?,
            }),
            ..run
        })
    }

    /// Runs a further command inside, under the same limits and filters. Returns the terminal's other end if there is one.
    pub(crate) async fn exec(&self, extra: Extra) -> Result<(Run, Option<OwnedFd>)> {
        let size = match &extra.streams {
            StandardStreams::Files(_) => None,
            StandardStreams::Terminal(size) => Some(*size),
        };
        let process = oci::process(&self.spec, &extra.command, &extra.workdir, size.is_some())
            .map_err(|error| Fault::runtime("describe the command", error))?;
        let description = Description::write(&self.dir, &process)?;
        let console = size.map(|_| ConsoleSocket::bind(&self.dir)).transpose()?;
        let (failure, failure_end) = pipe()?;
        let launch = Launch {
            terminal: size,
            ..self.launch(extra.command.clone(), failure_end)
        };
        let console_path = console.as_ref().map(|socket| &socket.path);
        let mut builder = self.builder(launch)?.with_console_socket(console_path);
        if let StandardStreams::Files([stdin, stdout, stderr]) = extra.streams {
            builder = builder
                .with_stdin(stdin)
                .with_stdout(stdout)
                .with_stderr(stderr);
        }
        let tenant = builder
            .as_tenant()
            .with_detach(true)
            .with_container_args(extra.command);
        match tenant.with_process(Some(&description.0)).build() {
            Ok(pid) => {
                let run = Run::of(pid.as_raw(), None)?;
                let run = executed(run, failure, PATIENCE).await?;
                let console = console.map(|socket| socket.receive()).transpose()?;
                Ok((run, console))
            }
            // What the command has to say is clearer than what the runtime makes of it.
            Err(error) => Err(match heed(failure, PATIENCE).await {
                Err(fault @ Fault::Command(_)) => fault,
                _ => Fault::runtime("join the sandbox", error),
            }),
        }
    }

    /// Forgets the container that ended, so that the next one can be created.
    pub(crate) fn forget(&self) {
        fs::remove_dir_all(self.dir.join("runtime")).ok();
    }

    fn builder(&self, launch: Launch) -> Result<ContainerBuilder> {
        let state = self.dir.join("runtime");
        fs::create_dir_all(&state).context(|| format!("create {}", state.display()))?;
        let builder =
            ContainerBuilder::new(NAME.to_owned(), SyscallType::default()).with_executor(launch);
        builder
            .with_root_path(state)
            .map_err(|error| Fault::runtime("use the runtime's folder", error))
    }

    fn launch(&self, command: Vec<String>, failure: PipeWriter) -> Launch {
        Launch {
            command,
            terminal: None,
            environment: self.spec.environment.clone(),
            filter: Arc::clone(&self.filter),
            doors: Arc::clone(&self.doors),
            failure: Arc::new(failure.into()),
        }
    }

    async fn let_run(
        &self,
        runtime: &mut Runtime,
        record: impl FnOnce(Pid) -> Result<()>,
    ) -> Result<Run> {
        let pid = runtime
            .pid()
            .ok_or_else(|| Fault::runtime("create the container", "it has no first process"))?;
        let run = Run::of(pid.as_raw(), None)?;
        let begun = record(run.pid).and_then(|()| {
            runtime
                .start()
                .map_err(|error| Fault::runtime("start the container", error))
        });
        match begun {
            Ok(()) => Ok(run),
            Err(fault) => {
                end(&run).await;
                Err(fault)
            }
        }
    }
}

impl Run {
    pub(crate) fn of(pid: i32, output: Option<Output>) -> Result<Self> {
        let pid = Pid::from_raw(pid)
            .ok_or_else(|| Fault::runtime("find the process", format!("its id is {pid}")))?;
        let handle =
            pidfd_open(pid, PidfdFlags::NONBLOCK).context(|| format!("refer to process {pid}"))?;
        Ok(Self {
            pid,
            handle,
            output,
        })
    }
}

/// Returns a process once it is the command that was asked for. One that does not get so far is ended.
async fn executed(run: Run, failure: PipeReader, patience: Duration) -> Result<Run> {
    match heed(failure, patience).await {
        Ok(()) => Ok(run),
        Err(fault) => {
            end(&run).await;
            Err(fault)
        }
    }
}

/// Waits for the word of [`Launch`]: silence is a successful execution.
async fn heed(failure: PipeReader, patience: Duration) -> Result<()> {
    let silent_for_long = |_| Fault::runtime("start the command", "it was not executed in time");
    let mut pipe = receiver(failure)?;
    let mut reason = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut pipe, &mut reason);
    let read = tokio::time::timeout(patience, read)
        .await
        .map_err(silent_for_long)?;
    read.context(|| "learn whether the command was executed".to_owned())?;
    if reason.is_empty() {
        Ok(())
    } else {
        Err(Fault::Command(reason))
    }
}

/// Kills a child and collects it, so that no zombie stays. One that the kernel does not let go of is left to the supervisor, which
/// collects whatever nobody waits for: nothing else happens in this process while it waits.
async fn end(run: &Run) {
    const PATIENCE: Duration = Duration::from_secs(5);
    pidfd_send_signal(&run.handle, Signal::KILL).ok();
    let handle = run.handle.try_clone();
    if let Ok(watched) = handle.and_then(|handle| watch(handle, Interest::READABLE)) {
        tokio::time::timeout(PATIENCE, watched.readable())
            .await
            .ok();
    }
    waitpid(Some(run.pid), WaitOptions::NOHANG).ok();
}

pub(super) fn pipe() -> Result<(PipeReader, PipeWriter)> {
    io::pipe().context(|| "create a pipe".to_owned())
}

pub(super) fn receiver(reader: PipeReader) -> Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(reader.into()).context(|| "watch a pipe".to_owned())
}

pub(super) fn null() -> Result<OwnedFd> {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    Ok(file.context(|| "open /dev/null".to_owned())?.into())
}

/// The description of a further process, on disk for as long as it takes to start it. It holds no environment.
struct Description(PathBuf);

impl Description {
    fn write(dir: &Path, process: &Process) -> Result<Self> {
        let path = dir.join("exec.json");
        let text = serde_json::to_vec(process)
            .map_err(|error| Fault::runtime("describe the command", error))?;
        fs::write(&path, text).context(|| format!("write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// Where the runtime hands over the terminal that it made inside the sandbox.
struct ConsoleSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    fn bind(dir: &Path) -> Result<Self> {
        let path = dir.join("console.sock");
        fs::remove_file(&path).ok();
        let listener =
            UnixListener::bind(&path).context(|| format!("listen at {}", path.display()))?;
        Ok(Self { path, listener })
    }

    /// The runtime has connected and sent already: this never waits.
    fn receive(&self) -> Result<OwnedFd> {
        let nothing = || Fault::runtime("take the terminal over", "the runtime sent none");
        self.listener
            .set_nonblocking(true)
            .context(|| "take the terminal over".to_owned())?;
        let (stream, _) = self
            .listener
            .accept()
            .context(|| "take the terminal over".to_owned())?;
        let (_, mut files) = crate::shim::passing::receive(stream.as_fd(), &mut [0; 64])
            .context(|| "take the terminal over".to_owned())?;
        files.pop().ok_or_else(nothing)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, sync::mpsc, thread};

    use super::*;

    #[test]
    fn a_child_that_is_not_executed_in_time_is_killed_and_does_not_hold_up_its_parent() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let run = Run::of(child.id().cast_signed(), None).unwrap();
        // Open for as long as nobody knows whether it will ever execute its command.
        let (failure, _open) = pipe().unwrap();
        let (done, over) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            done.send(
                runtime
                    .block_on(executed(run, failure, Duration::from_millis(50)))
                    .is_err(),
            )
        });
        let over = over.recv_timeout(Duration::from_secs(10));
        // Nothing is left to kill, or to collect, if it was ended.
        child.kill().ok();
        assert_eq!(over, Ok(true));
        assert!(
            child
                .wait()
                .is_err_and(|error| error.raw_os_error() == Some(10))
        );
    }
}
