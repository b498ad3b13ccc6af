use std::{os::fd::OwnedFd, path::Path, time::Duration};

use anyhow::{Result, bail};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tappaas_api::types::Stop;
use tokio::{io::unix::AsyncFd, net::UnixStream};

use super::session::Session;
use crate::cli::StopArgs;

/// How long a server may take to stop; with applications, their grace comes on top.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);

pub(super) async fn stop(session: &Session, args: &StopArgs) -> Result<()> {
    let stop = Stop { apps: args.apps };
    end(session, &stop).await?;
    let what = if args.apps {
        "the server and all applications"
    } else {
        "the server; applications go on"
    };
    let text = |_: &Stop| session.printer.line(format_args!("stopped {what}"));
    session.printer.value(&stop, text)
}

/// Stops the server and waits until its process has ended, so that another one can have its data directory.
pub(super) async fn end(session: &Session, stop: &Stop) -> Result<()> {
    let process = process(&session.socket).await;
    session.client.stop(stop).await?;
    let gone = async {
        while session.alive().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        match process {
            Some(process) => ended(process).await,
            None => Ok(()),
        }
    };
    match tokio::time::timeout(STOP_TIMEOUT, gone).await {
        Ok(ended) => Ok(ended?),
        Err(_) => bail!(
            "the server has not stopped within {} s; its log says why",
            STOP_TIMEOUT.as_secs()
        ),
    }
}

/// The process that listens on a socket. `None` where it cannot be seen from here.
async fn process(socket: &Path) -> Option<OwnedFd> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let pid = Pid::from_raw(stream.peer_cred().ok()?.pid()?)?;
    pidfd_open(pid, PidfdFlags::NONBLOCK).ok()
}

/// Waits until a process has ended.
#[expect(
    deprecated,
    reason = "its replacement is an unsafe function, whose condition an `OwnedFd` meets: it stays open, and the same, while owned"
)]
async fn ended(process: OwnedFd) -> std::io::Result<()> {
    AsyncFd::new(process)?.readable().await.map(drop)
}
