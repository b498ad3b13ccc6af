use std::{fs, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process, pidfd_send_signal};
use tappaas_core::{Error, Result};
use tokio::time::{Instant, timeout};

use super::pasta;
use crate::{
    fault::Context,
    network,
    shim::{
        Identity, Record, SHIM, boot_id,
        protocol::{CONTROL, DIAL},
    },
};

/// How long killed processes may take to vanish.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much longer than the process inside a shim may take to stop: it cleans up behind it.
pub(crate) const MARGIN: Duration = Duration::from_secs(20);

/// Leaves nothing of an instance whose shim is dead: kills every process of it and removes its control groups, links and sockets.
/// The folder stays, with the log. That there is nothing to do is no error.
///
/// # Errors
/// `Conflict` if the shim lives: then the instance is to be adopted instead.
pub async fn reap(dir: &Path) -> Result<()> {
    let record = Record::read(dir).context(|| format!("read the record in {}", dir.display()))?;
    let Some(record) = record else {
        return match processes_of(dir).is_empty() {
            true => Ok(()),
            false => Err(Error::conflict(format!(
                "a shim runs in {} whose record cannot be read",
                dir.display()
            ))),
        };
    };
    let boot = boot_id().context(|| "identify this boot".to_owned())?;
    if record.boot == boot {
        if record.ended.is_none() && record.shim.alive().is_some() {
            return Err(Error::conflict(format!(
                "instance {} is not dead: adopt it",
                record.id
            )));
        }
        kill_all(&record, dir).await?;
        record.cgroup.remove(PATIENCE).await?;
        if let Some(link) = &record.link {
            network::cut(link).context(|| format!("delete the interface {link}"))?;
        }
    }
    for file in [
        CONTROL,
        DIAL,
        "console.sock",
        "exec.json",
        "instance.json.new",
        "pasta.pid",
    ] {
        fs::remove_file(dir.join(file)).ok();
    }
    for folder in ["runtime", "bundle", "mnt"] {
        fs::remove_dir_all(dir.join(folder)).ok();
    }
    Ok(())
}

/// Ends an instance whatever becomes of its shim, without speaking to it, and [reaps](reap) it. The shim is told by a signal to stop
/// and clean up, and is killed if it is not done after `patience`. That there is nothing to do is no error.
pub async fn end(dir: &Path, patience: Duration) -> Result<()> {
    let record = Record::read(dir).context(|| format!("read the record in {}", dir.display()))?;
    let boot = boot_id().context(|| "identify this boot".to_owned())?;
    let shims = match record {
        Some(record) if record.boot == boot => vec![record.shim],
        Some(_) => Vec::new(),
        // One that died in the meantime is none.
        None => processes_of(dir)
            .into_iter()
            .filter_map(|pid| Identity::of(pid).ok())
            .filter(|found| {
                processes_of(dir)
                    .iter()
                    .any(|pid| found.alive() == Some(*pid))
            })
            .collect(),
    };
    for shim in shims {
        dismiss(shim, patience).await?;
    }
    reap(dir).await
}

/// Tells a shim to stop, and kills it if it is not dead after `patience`.
pub(super) async fn dismiss(shim: Identity, patience: Duration) -> Result<()> {
    let handle = shim
        .handle()
        .context(|| format!("refer to process {}", shim.pid))?;
    let Some(handle) = handle else {
        return Ok(());
    };
    if !patience.is_zero() {
        pidfd_send_signal(&handle, Signal::TERM).ok();
        if timeout(patience, shim.gone()).await.is_ok() {
            return Ok(());
        }
    }
    tracing::warn!(shim = shim.pid, "a supervisor is killed");
    pidfd_send_signal(&handle, Signal::KILL).ok();
    let survives = |_| Error::unavailable(format!("process {} survives being killed", shim.pid));
    timeout(PATIENCE, shim.gone()).await.map_err(survives)
}

/// The first process of a sandbox takes all others in it along. Those that were cloned from the shim and did not get further are
/// told by the shim's arguments, which they still have, and what connects its network by its own.
async fn kill_all(record: &Record, dir: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut left = processes_of(dir);
        left.extend(record.process.and_then(|process| process.alive()));
        left.extend(record.cgroup.processes());
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::unavailable(format!(
                "processes of instance {} survive being killed",
                record.id
            )));
        }
        record.cgroup.kill();
        for pid in left {
            kill_process(pid, Signal::KILL).ok();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Clones of the shim, and `pasta`.
pub(super) fn processes_of(dir: &Path) -> Vec<Pid> {
    let arguments = |name: &str, path: &Path| {
        let path = path.as_os_str().as_encoded_bytes();
        [b"\0", name.as_bytes(), b"\0", path, b"\0"].concat()
    };
    let shim = arguments(SHIM, dir);
    let pasta = arguments("--pid", &pasta::id_file(dir));
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let alive = || {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        };
        let connects = || line.windows(pasta.len()).any(|part| part == pasta);
        (line.ends_with(&shim) || connects()) && alive()
    })
    .filter_map(Pid::from_raw)
    .collect()
}
