use std::{
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, Stdio},
    sync::Arc,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::container::{Extra, Output, Run, StandardStreams, null, pipe, receiver};
use crate::{
    fault::{Context, Fault, Result},
    sandbox::{Spec, User, children},
};

/// A process without a sandbox, in a process group of its own.
///
/// The shim becomes the parent of whatever the process leaves behind, so that all of it can be found and killed.
pub(crate) struct Direct {
    spec: Arc<Spec>,
}

impl Direct {
    pub(crate) fn prepare(spec: &Arc<Spec>) -> Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .context(|| "become the parent of orphans".to_owned())?;
        rustix::thread::set_no_new_privs(true).context(|| "give up new privileges".to_owned())?;
        Ok(Self {
            spec: Arc::clone(spec),
        })
    }

    pub(crate) fn start(&self) -> Result<Run> {
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        let command = self.spec.command.clone();
        let extra = Extra {
            command,
            workdir: self.spec.workdir.clone(),
            streams: StandardStreams::Files([null()?, stdout_end.into(), stderr_end.into()]),
        };
        let output = Output {
            stdout: receiver(stdout)?,
            stderr: receiver(stderr)?,
        };
        let run = self.exec(extra)?;
        Ok(Run {
            output: Some(output),
            ..run
        })
    }

    pub(crate) fn exec(&self, extra: Extra) -> Result<Run> {
        let StandardStreams::Files(streams) = extra.streams else {
            return Err(Fault::Unsupported(
                "a terminal needs a sandbox; this instance runs without one".to_owned(),
            ));
        };
        let [stdin, stdout, stderr] = streams.map(|stream: OwnedFd| Stdio::from(stream));
        let (program, arguments) = extra
            .command
            .split_first()
            .ok_or_else(|| Fault::Command("there is no command".to_owned()))?;
        let environment = self
            .spec
            .environment
            .iter()
            .map(|(name, value)| (name, value.expose()));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(environment)
            .current_dir(&extra.workdir);
        command
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        if let (User::Id(id), true) = (self.spec.user, nix::unistd::geteuid().is_root()) {
            command.uid(id).gid(id);
        }
        let started = command
            .spawn()
            .map_err(|error| Fault::Command(format!("cannot execute {program}: {error}")));
        // The child is waited for by its id, as a sandboxed one is.
        Run::of(
            i32::try_from(started?.id()).expect("a process id fits"),
            None,
        )
    }

    /// Kills whatever is left of the process's group and of its orphans.
    pub(crate) fn kill(&self, pid: Pid) {
        kill_process_group(pid, Signal::KILL).ok();
        for orphan in children() {
            kill_process(orphan, Signal::KILL).ok();
        }
    }
}
