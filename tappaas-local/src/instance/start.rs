use std::{
    fs::{self, File},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt, unix::fs::PermissionsExt},
    path::Path,
    pin::pin,
    process::Stdio,
    time::Duration,
};

use tappaas_core::{Error, Result};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use super::{Instance, Line, LogReader, Phase, Status, pasta, reap};
use crate::{
    fault::Context,
    sandbox::{Isolation, Spec, User},
    shim::{
        Record, SHIM,
        protocol::{self, CONTROL, FRAME_MAX, Progress, Start, VERSION},
    },
};

/// A start takes milliseconds; on a machine in trouble, seconds.
const PATIENCE: Duration = Duration::from_secs(60);

impl Instance {
    /// Starts an instance with its folder at `dir`, by the program `helper`, which calls [`crate::helper_main`].
    ///
    /// Returns once its process is executed. A failure leaves nothing behind but the folder with its log.
    ///
    /// # Errors
    /// `Invalid` if the spec is wrong or the command cannot be executed, `AlreadyExists` if an instance runs in that folder.
    pub async fn start(helper: &Path, dir: &Path, spec: &Spec) -> Result<Self> {
        spec.validate()?;
        prepare_folder(dir, spec)?;
        let (near, far) = UnixStream::pair().context(|| "create a socket".to_owned())?;
        let mut child = spawn(helper, dir, far)?;
        let started = timeout(PATIENCE, converse_with(&mut child, &near, dir, spec)).await;
        let late = |_| Err(Error::unavailable("the instance did not start in time"));
        match started.unwrap_or_else(late) {
            Ok(status) => {
                let record = Record::read(dir)
                    .context(|| format!("read the record in {}", dir.display()))?;
                let record = record.ok_or_else(|| Error::internal("the instance has no record"))?;
                Ok(Self::new(dir, &record, &status))
            }
            Err(error) => Err(abandon(child, dir, error).await),
        }
    }
}

/// Runs an instance to its end, handing over each line of its log. Dropping `lines`' receiver does not stop it.
///
/// # Errors
/// As [`Instance::start`]; how the process ended is in the result, never an error.
pub async fn run_to_completion(
    helper: &Path,
    dir: &Path,
    spec: &Spec,
    lines: &mpsc::Sender<Line>,
) -> Result<Status> {
    const PAUSE: Duration = Duration::from_millis(50);
    let instance = Instance::start(helper, dir, spec).await?;
    let mut status = instance.subscribe().await?;
    let mut log = LogReader::open(dir);
    loop {
        let over = matches!(status.borrow_and_update().phase, Phase::Ended | Phase::Lost);
        loop {
            // From the page cache, at most a few hundred kilobytes: not worth another thread.
            let read = log.read().context(|| "read the log".to_owned())?;
            if read.is_empty() {
                break;
            }
            for line in read {
                lines.send(line).await.ok();
            }
        }
        if over {
            break;
        }
        timeout(PAUSE, status.changed()).await.ok();
    }
    instance.gone().await;
    let last = status.borrow().clone();
    reap(dir).await?;
    Ok(last)
}

fn prepare_folder(dir: &Path, spec: &Spec) -> Result<()> {
    // The kernel's bound of a socket's path, less the NUL.
    const PATH_MAX: usize = 107;
    let longest = dir.as_os_str().len() + 1 + CONTROL.len();
    if longest > PATH_MAX {
        let dir = dir.display();
        return Err(Error::invalid(format!(
            "the path {dir} is too long for a socket in it: use a data directory with a shorter path"
        )));
    }
    if let Ok(Some(record)) = Record::read(dir)
        && record.ended.is_none()
        && record.shim.alive().is_some()
    {
        return Err(Error::already_exists(format!(
            "instance {} runs in {}",
            record.id,
            dir.display()
        )));
    }
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.context(|| format!("create {}", dir.display()))?;
    if let (Isolation::Privileged, User::Root { host }) = (spec.isolation, spec.user) {
        // The shim itself runs as that user, from which nothing above may be hidden.
        std::os::unix::fs::chown(dir, Some(host), Some(host))
            .context(|| format!("give {} away", dir.display()))?;
        refuse_hidden(dir)?;
    }
    Ok(())
}

fn refuse_hidden(dir: &Path) -> Result<()> {
    let hidden = dir
        .ancestors()
        .skip(1)
        .find(|above| fs::metadata(above).is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0));
    match hidden {
        None => Ok(()),
        Some(above) => Err(Error::invalid(format!(
            "an instance with user \"root\" is an ordinary user of this machine and cannot pass {}: give that folder mode 0711",
            above.display()
        ))),
    }
}

fn spawn(helper: &Path, dir: &Path, socket: UnixStream) -> Result<Child> {
    let socket = socket
        .into_std()
        .and_then(|socket| socket.set_nonblocking(false).map(|()| socket));
    let socket: OwnedFd = socket.context(|| "create a socket".to_owned())?.into();
    let errors = File::create(dir.join("shim.err"))
        .context(|| format!("create a file in {}", dir.display()))?;
    let spawned = Command::new(helper)
        .arg(SHIM)
        .arg(dir)
        .env_clear()
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::from(errors))
        .spawn();
    spawned.map_err(|error| {
        Error::invalid(format!(
            "cannot execute the helper program {}",
            helper.display()
        ))
        .with_source(error)
    })
}

/// The end of the helper counts as the end of the talk: clones of it may keep the socket open.
async fn converse_with(
    child: &mut Child,
    socket: &UnixStream,
    dir: &Path,
    spec: &Spec,
) -> Result<Status> {
    const LAST_WORDS: Duration = Duration::from_millis(50);
    let died = || Error::internal("the helper program died");
    let pid = child.id().ok_or_else(died)?;
    let mut talk = pin!(converse(socket, pid, dir, spec));
    tokio::select! {
        biased;
        outcome = &mut talk => outcome,
        _ = child.wait() => timeout(LAST_WORDS, talk).await.unwrap_or_else(|_| Err(died())),
    }
}

async fn converse(socket: &UnixStream, pid: u32, dir: &Path, spec: &Spec) -> Result<Status> {
    let lost = |error| Error::internal("the helper program broke off").with_source(error);
    let start = Start {
        version: VERSION,
        spec: spec.clone(),
    };
    protocol::send(socket, &start, &[]).await.map_err(lost)?;
    loop {
        let (progress, _) = protocol::receive::<Progress>(socket, FRAME_MAX)
            .await
            .map_err(lost)?;
        match progress {
            Progress::Map(map) => map.write(&pid.to_string())?,
            Progress::Connect { pasta } => pasta::connect(&pasta, pid, dir).await?,
            Progress::Started(status) => return Ok(*status),
            Progress::Failed { kind, message } => return Err(protocol::error(&kind, message)),
        }
        protocol::send(socket, &(), &[]).await.map_err(lost)?;
    }
}

/// Leaves nothing behind, and adds to the error what the helper had to say.
async fn abandon(mut child: Child, dir: &Path, error: Error) -> Error {
    const GRACE: Duration = Duration::from_secs(5);
    if timeout(GRACE, child.wait()).await.is_err() {
        child.kill().await.ok();
    }
    reap(dir).await.ok();
    let said = fs::read_to_string(dir.join("shim.err")).unwrap_or_default();
    match said.trim().lines().last() {
        Some(last) => Error::new(error.kind(), format!("{error} ({last})")).with_source(error),
        None => error,
    }
}
