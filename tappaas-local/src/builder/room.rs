use std::{io, thread};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use tappaas_core::{Error, Result};
use tokio::sync::oneshot;

use crate::fault::Context as _;

/// Runs `work` on a thread of its own, which, if `apart`, has a mount namespace of its own.
///
/// What is mounted there is seen by nobody but the thread and the processes it starts, and is gone with the last of them: neither an
/// instance that starts meanwhile nor a crash can keep it.
pub(super) async fn run<F, T>(apart: bool, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    F: Future<Output = Result<T>>,
    T: Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let body = move || {
        let done = prepare(apart).and_then(|runtime| runtime.block_on(work()));
        // Whoever waited may have gone.
        sender.send(done).ok();
    };
    let spawned = thread::Builder::new().name("build".to_owned()).spawn(body);
    spawned.context(|| "start a thread for a build".to_owned())?;
    let done = receiver.await;
    done.map_err(|error| Error::internal("the thread of a build broke off").with_source(error))?
}

fn prepare(apart: bool) -> Result<tokio::runtime::Runtime> {
    if apart {
        let entered = unshare(CloneFlags::CLONE_NEWNS).map_err(io::Error::from);
        entered.context(|| "create a mount namespace for a build".to_owned())?;
        let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", flags).context(|| "keep a build's mounts private".to_owned())?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    Ok(runtime.context(|| "start an event loop for a build".to_owned())?)
}
