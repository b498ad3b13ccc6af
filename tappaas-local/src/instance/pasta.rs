use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tappaas_core::{Error, Result};
use tokio::process::Command;

/// Connects the network namespace of process `pid` with the outside.
///
/// `pasta` copies packets as this user, without any privilege; it goes into the background once it is connected. Not every version ends
/// with the namespace, so that it is told from others by the file [`id_file`] among its arguments, and killed. Nothing is forwarded inwards, and the machine's own services are not reachable by way of the gateway's address.
pub(super) async fn connect(pasta: &Path, pid: u32, dir: &Path) -> Result<()> {
    let none = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"];
    let output = Command::new(pasta)
        .args(["--config-net", "--quiet", "--no-map-gw", "--ipv4-only"])
        .args(none)
        .arg("--pid")
        .arg(id_file(dir))
        .arg(pid.to_string())
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .await;
    let failed = |why: String| {
        Error::internal(format!(
            "{} cannot connect the network: {why}",
            pasta.display()
        ))
    };
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(
        said.lines()
            .last()
            .unwrap_or("it does not say why")
            .trim()
            .to_owned(),
    ))
}

/// Where the `pasta` of the instance in `dir` writes its process id. Nobody reads it.
pub(super) fn id_file(dir: &Path) -> PathBuf {
    dir.join("pasta.pid")
}
