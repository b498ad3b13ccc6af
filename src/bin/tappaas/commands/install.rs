//! `tappaas install`: a systemd unit for the server.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    output::Printer,
    place::{self, DataDir},
};

/// Prints the unit, and writes it once confirmed.
pub(crate) fn install(printer: Printer, data: &DataDir, program: &Path, yes: bool) -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    let path = unit_path(root)?;
    let unit = unit(program, data.path(), root)?;
    let shown = serde_json::json!({ "path": path, "unit": unit });
    printer.value(&shown, |_| {
        printer.line(format_args!("# {}", path.display()));
        printer.raw(unit.as_bytes());
    })?;
    if !yes && !confirmed(&format!("Write {}?", path.display()))? {
        bail!("nothing was written; on a terminal this asks, elsewhere pass --yes");
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(&path, unit).with_context(|| format!("cannot write {}", path.display()))?;
    let user = if root { "" } else { "--user " };
    printer.note(format_args!("written; start it with:\n  systemctl {user}daemon-reload\n  systemctl {user}enable --now tappaas"));
    if !root {
        printer.note("so that it runs while you are not logged in, too:\n  loginctl enable-linger");
    }
    Ok(())
}

fn unit_path(root: bool) -> Result<PathBuf> {
    if root {
        return Ok(PathBuf::from("/etc/systemd/system/tappaas.service"));
    }
    Ok(place::config_home()?.join("systemd/user/tappaas.service"))
}

/// The unit. `KillMode=process`: applications and the edge outlive the server. `Delegate=yes`: limits are ours to set.
fn unit(program: &Path, data: &Path, root: bool) -> Result<String> {
    let sections: [(&str, Vec<(&str, String)>); 3] = [
        (
            "Unit",
            vec![
                ("Description", "TAPPaaS".to_owned()),
                ("Wants", "network-online.target".to_owned()),
                ("After", "network-online.target".to_owned()),
            ],
        ),
        (
            "Service",
            vec![
                (
                    "ExecStart",
                    format!("{} serve --data-dir {}", quoted(program)?, quoted(data)?),
                ),
                ("Restart", "always".to_owned()),
                ("RestartSec", "1".to_owned()),
                ("KillMode", "process".to_owned()),
                ("Delegate", "yes".to_owned()),
                ("LimitNOFILE", "1048576".to_owned()),
                ("TasksMax", "infinity".to_owned()),
            ],
        ),
        (
            "Install",
            vec![(
                "WantedBy",
                if root {
                    "multi-user.target"
                } else {
                    "default.target"
                }
                .to_owned(),
            )],
        ),
    ];
    let mut unit = Vec::new();
    for (section, entries) in sections {
        writeln!(unit, "[{section}]")?;
        for (key, value) in entries {
            writeln!(unit, "{key}={value}")?;
        }
        writeln!(unit)?;
    }
    Ok(String::from_utf8(unit)?)
}

/// A word of `ExecStart` (systemd.service(5), "Command lines"): quoted, with `%`, `$`, `"` and `\` escaped.
fn quoted(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8, which a unit file must be", path.display()))?;
    if text.contains(char::is_control) {
        bail!(
            "{} has a control character, which a unit file cannot carry",
            path.display()
        );
    }
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$");
    Ok(format!("\"{escaped}\""))
}

/// Asks on the terminal; without one the answer is no.
pub(crate) fn confirmed(question: &str) -> Result<bool> {
    Ok(matches!(
        answer(&format!("{question} [y/N] "))?.as_deref(),
        Some("y" | "Y" | "yes")
    ))
}

/// Asks a question on the terminal; `None` without one.
pub(crate) fn answer(question: &str) -> Result<Option<String>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut error = std::io::stderr();
    write!(error, "{question}")?;
    error.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(Some(line.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_keeps_applications_alive_and_escapes_paths() {
        let unit = unit(
            Path::new("/opt/a b/tappaas"),
            Path::new("/data/100%$HOME\"x"),
            true,
        )
        .unwrap();
        assert!(
            unit.contains(
                "ExecStart=\"/opt/a b/tappaas\" serve --data-dir \"/data/100%%$$HOME\\\"x\"\n"
            ),
            "{unit}"
        );
        assert!(unit.contains("\nKillMode=process\n") && unit.contains("\nDelegate=yes\n"));
    }
}
