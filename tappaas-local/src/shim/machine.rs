use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid,
};
use tappaas_core::backend::Exit;
use tokio::io::Interest;

use super::{clock, handshake::Handshake, signals::handles};
use crate::{
    fault::{Context, Result},
    network::{Wire, set_up_private},
    sandbox::{
        self, Cgroup, Container, Direct, Enforced, Extra, Isolation, Layout, Network, Run, Spec,
        collect_children,
    },
    watched::watch,
};

/// All that belongs to an instance on this machine: it starts processes in it, and leaves nothing of it behind.
pub(super) struct Machine {
    parts: Parts,
    inside: Inside,
}

enum Inside {
    Container(Container),
    Direct(Direct),
}

impl Machine {
    /// Sets everything up that outlives a single run of the process. A failure leaves nothing behind.
    pub(super) async fn set_up(
        spec: &Arc<Spec>,
        dir: &Path,
        layout: &Layout,
        cgroup: Cgroup,
        handshake: &mut Handshake,
    ) -> Result<Self> {
        let mut parts = Parts {
            dir: dir.to_owned(),
            cgroup,
            pins: Vec::new(),
            wire: None,
        };
        if spec.isolation == Isolation::None {
            let inside = Inside::Direct(Direct::prepare(spec)?);
            return Ok(Self { parts, inside });
        }
        match parts.sandbox(spec, layout, handshake).await {
            Ok(container) => Ok(Self {
                parts,
                inside: Inside::Container(container),
            }),
            Err(fault) => {
                parts.remove().await;
                Err(fault)
            }
        }
    }

    pub(super) fn enforced(&self) -> Enforced {
        self.parts.cgroup.enforced()
    }

    pub(super) fn cgroup(&self) -> &Cgroup {
        &self.parts.cgroup
    }

    /// Starts the process, once `record` has noted it.
    pub(super) async fn start(&self, record: impl FnOnce(Pid) -> Result<()>) -> Result<Run> {
        match &self.inside {
            Inside::Container(container) => container.start(record).await,
            Inside::Direct(direct) => {
                let run = direct.start()?;
                record(run.pid).inspect_err(|_| direct.kill(run.pid))?;
                Ok(run)
            }
        }
    }

    /// Starts a further command inside.
    pub(super) async fn exec(&self, extra: Extra) -> Result<(Run, Option<OwnedFd>)> {
        match &self.inside {
            Inside::Container(container) => container.exec(extra).await,
            Inside::Direct(direct) => Ok((direct.exec(extra)?, None)),
        }
    }

    /// Sends the stop signal to the process.
    ///
    /// The first process of a sandbox is one that the kernel shields from signals it has not asked for. One that relies on the
    /// default, which is to end, would never stop: then the signal goes to everything else inside, and once the first process is
    /// alone, it is killed as the default would have done. Says whether it is alone already.
    pub(super) fn signal(&self, run: &Run, signal: Signal) -> bool {
        if matches!(self.inside, Inside::Direct(_)) || handles(run.pid, signal) {
            pidfd_send_signal(&run.handle, signal).ok();
            return false;
        }
        let others = self.others(run.pid);
        for pid in &others {
            rustix::process::kill_process(*pid, signal).ok();
        }
        others.is_empty()
    }

    /// The first process is the only one inside, and waits for nothing but its death.
    pub(super) fn is_alone(&self, run: &Run, signal: Signal) -> bool {
        matches!(self.inside, Inside::Container(_))
            && !handles(run.pid, signal)
            && self.others(run.pid).is_empty()
    }

    /// Kills everything inside.
    pub(super) fn kill(&self, run: &Run) {
        // The first process of a sandbox takes all others along.
        pidfd_send_signal(&run.handle, Signal::KILL).ok();
        if let Inside::Direct(direct) = &self.inside {
            direct.kill(run.pid);
        }
    }

    /// Waits until nothing of a run that ended is left.
    pub(super) async fn settle(&self, run: &Run) {
        const ROUNDS: u32 = 500;
        const PAUSE: Duration = Duration::from_millis(10);
        if let Inside::Direct(direct) = &self.inside {
            for _ in 0..ROUNDS {
                direct.kill(run.pid);
                if !collect_children(&[]) {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Removes all of it.
    pub(super) async fn remove(self) {
        self.parts.remove().await;
    }

    fn others(&self, first: Pid) -> Vec<Pid> {
        sandbox::inside_of(first)
            .into_iter()
            .filter(|pid| *pid != first)
            .collect()
    }
}

/// What there is of an instance, whether it got as far as a process or not.
struct Parts {
    dir: PathBuf,
    /// As it was planned, until it is made; then by paths that hold in every mount namespace.
    cgroup: Cgroup,
    /// What these paths go through.
    pins: Vec<OwnedFd>,
    wire: Option<Wire>,
}

impl Parts {
    async fn sandbox(
        &mut self,
        spec: &Arc<Spec>,
        layout: &Layout,
        handshake: &mut Handshake,
    ) -> Result<Container> {
        if spec.isolation == Isolation::Privileged {
            nix::unistd::setgroups(&[]).context(|| "drop supplementary groups".to_owned())?;
        }
        let named = self.cgroup.clone();
        named.create(layout, &spec.limits)?;
        // While this is still somebody who may, and sees where they are mounted.
        let doors = Arc::new(named.doors()?);
        (self.cgroup, self.pins) = named.pin()?;
        match (&spec.network, spec.isolation) {
            (Network::Bridge(attachment), _) => self.wire = Some(Wire::attach(attachment)?),
            (Network::Private { .. }, Isolation::Privileged) => {
                unshare(CloneFlags::CLONE_NEWNET)
                    .context(|| "create a network namespace".to_owned())?;
                set_up_private()?;
            }
            _ => {}
        }
        sandbox::enter(spec, handshake).await?;
        if let Network::Private { pasta } = &spec.network {
            if spec.isolation == Isolation::Rootless {
                set_up_private()?;
            }
            if let Some(pasta) = pasta {
                handshake.connect(pasta.clone()).await?;
            }
        }
        Container::prepare(spec, &self.dir, &named, doors)
    }

    async fn remove(mut self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        if let Some(wire) = &mut self.wire {
            wire.cut();
        }
        // Those that a user namespace may not remove are left to the server, which reads of them in the record.
        self.cgroup.remove(PATIENCE).await.ok();
        for name in ["runtime", "bundle"] {
            fs::remove_dir_all(self.dir.join(name)).ok();
        }
        rustix::mount::unmount(self.dir.join("mnt"), rustix::mount::UnmountFlags::DETACH).ok();
        rustix::mount::unmount(self.dir.join("mnt"), rustix::mount::UnmountFlags::DETACH).ok();
        fs::remove_dir(self.dir.join("mnt")).ok();
    }
}

/// Waits for a child to end.
pub(super) async fn ended(handle: impl AsFd) -> io::Result<Exit> {
    let handle = handle.as_fd().try_clone_to_owned()?;
    let watched = watch(handle, Interest::READABLE)?;
    loop {
        let mut ready = watched.readable().await?;
        if let Some(status) = waitid(
            WaitId::PidFd(watched.get_ref().as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        )? {
            return Ok(exit(&status));
        }
        ready.clear_ready();
    }
}

fn exit(status: &WaitIdStatus) -> Exit {
    Exit {
        code: status.exit_status(),
        signal: status.terminating_signal(),
        out_of_memory: false,
        at: clock::now(),
    }
}
