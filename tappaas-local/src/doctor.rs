//! What this machine allows, found out by trying, and how to get more.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags};
use serde::{Deserialize, Serialize};
use tappaas_core::{Error, Result};
use tokio::process::Command;

use crate::{
    network,
    sandbox::{Controller, Enforced, Filter, Isolation, Layout},
    shim::PROBE,
};

/// What this machine allows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// This process is root.
    pub root: bool,
    /// The kernel's version.
    pub kernel: String,
    /// The namespaces that a sandbox is made of: created by root, or by anybody inside a user namespace.
    pub namespaces: Finding,
    /// Laying the folders of an image over each other.
    pub overlay: Finding,
    /// Filtering system calls. Without it nothing starts.
    pub seccomp: Finding,
    /// Limits on memory, CPU and processes.
    pub limits: Finding,
    /// Which of them hold.
    pub enforced: Enforced,
    /// Addresses for instances, and rules between them.
    pub network: Finding,
    /// The program that connects a plain user's instances with the outside, if it is installed.
    pub pasta: Option<PathBuf>,
    /// The program that gives a plain user a range of ids. Not used: a plain user's instances have that user's own id outside.
    pub newuidmap: Option<PathBuf>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How it is.
    pub state: State,
    /// What was found, in a sentence without an end.
    pub detail: String,
    /// How to get more, if there is a way.
    pub remedy: Option<String>,
}

/// How something that was looked at is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, with less than it could.
    Limited,
    /// It does not work.
    Missing,
}

impl Report {
    /// Looks at this machine. The program `helper` tries things out in a process of its own, and mounts in the empty folder `scratch`
    /// what nobody else sees.
    ///
    /// # Errors
    /// `Invalid` if the helper cannot be executed or does not call [`crate::helper_main`].
    pub async fn of_this_machine(helper: &Path, scratch: &Path) -> Result<Self> {
        let refused = |why: String| {
            Error::invalid(format!("{} is no helper program: {why}", helper.display()))
        };
        let output = Command::new(helper)
            .arg(PROBE)
            .arg(scratch)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .await;
        let output = output.map_err(|error| refused(error.to_string()))?;
        let tried: Tried =
            serde_json::from_slice(&output.stdout).map_err(|error| refused(error.to_string()))?;
        Ok(Self::of(&tried))
    }

    /// The strongest isolation that this machine allows.
    ///
    /// # Errors
    /// `Unsupported`, naming what is missing and every way out.
    pub fn isolation(&self) -> Result<Isolation> {
        let needed = [&self.namespaces, &self.overlay, &self.seccomp];
        let missing: Vec<_> = needed
            .into_iter()
            .filter(|finding| finding.state == State::Missing)
            .collect();
        if missing.is_empty() {
            return Ok(if self.root {
                Isolation::Privileged
            } else {
                Isolation::Rootless
            });
        }
        let mut ways: Vec<_> = missing
            .iter()
            .filter_map(|finding| finding.remedy.clone())
            .collect();
        if !self.root {
            ways.push("run as root".to_owned());
        }
        ways.push("choose `--isolation none`, which runs applications unconfined".to_owned());
        let missing: Vec<_> = missing
            .into_iter()
            .map(|finding| finding.detail.as_str())
            .collect();
        Err(Error::unsupported(format!(
            "this machine cannot confine applications: {}. ways out: {}",
            missing.join("; "),
            ways.join("; or ")
        )))
    }

    /// The program that connects instances and builds with the outside, if a plain user runs them and it can work here.
    pub fn outside(&self) -> Option<PathBuf> {
        let works = !self.root && self.network.state == State::Ok;
        self.pasta.clone().filter(|_| works)
    }

    fn of(tried: &Tried) -> Self {
        let root = nix::unistd::geteuid().is_root();
        let layout = Layout::detect();
        let enforced = Enforced {
            memory: layout.has(Controller::Memory),
            cpu: layout.has(Controller::Cpu),
            pids: layout.has(Controller::Pids),
        };
        let pasta = installed("pasta");
        Self {
            root,
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            namespaces: namespaces(root, tried),
            overlay: tried.overlay.finding(
                "overlay file systems",
                "use Linux 5.12 or newer with CONFIG_OVERLAY_FS",
            ),
            seccomp: tried.seccomp.finding(
                "system call filters",
                "use a kernel with CONFIG_SECCOMP_FILTER",
            ),
            limits: limits(root, enforced, layout.version_2()),
            enforced,
            network: match root {
                true => addresses(),
                false => outside(pasta.is_some(), Path::new(TUN)),
            },
            pasta,
            newuidmap: installed("newuidmap"),
        }
    }
}

fn namespaces(root: bool, tried: &Tried) -> Finding {
    let name = if root {
        "namespaces"
    } else {
        "user namespaces"
    };
    let switch = |file: &str, blocking: &str| {
        fs::read_to_string(Path::new("/proc/sys").join(file))
            .is_ok_and(|text| text.trim() == blocking)
    };
    let remedy = if root {
        "give this process the capability CAP_SYS_ADMIN (for Docker: `--privileged`)"
    } else if switch("user/max_user_namespaces", "0") {
        "let root run `sysctl user.max_user_namespaces=15000`"
    } else if switch("kernel/unprivileged_userns_clone", "0") {
        "let root run `sysctl kernel.unprivileged_userns_clone=1`"
    } else if switch("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "let root run `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or give this program an AppArmor profile with `userns`"
    } else {
        "allow user namespaces: a security module or a surrounding container forbids them"
    };
    tried.namespaces.finding(name, remedy)
}

fn limits(root: bool, enforced: Enforced, version_2: bool) -> Finding {
    let version = if version_2 { "version 2" } else { "version 1" };
    let Enforced { memory, cpu, pids } = enforced;
    let held = [("memory", memory), ("CPU", cpu), ("processes", pids)];
    let named = |holds: bool| {
        let names: Vec<_> = held
            .iter()
            .filter(|(_, held)| *held == holds)
            .map(|(name, _)| *name)
            .collect();
        names.join(", ")
    };
    let remedy = match (root, version_2) {
        (true, _) => {
            "switch the missing controllers on, in the kernel or in the surrounding container"
        }
        (false, true) => {
            "start it by `systemd-run --user --scope -p Delegate=yes`, in a session with all controllers delegated; or run as root"
        }
        (false, false) => {
            "run as root, or boot with `systemd.unified_cgroup_hierarchy=1` and have a subtree delegated: version 1 of control groups allows a plain user no limits"
        }
    };
    match (memory, cpu, pids) {
        (true, true, true) => Finding::ok(format!("limits hold, by {version} of control groups")),
        (false, false, false) => Finding::lacking(
            State::Limited,
            "no limits on memory, CPU and processes hold".to_owned(),
            remedy,
        ),
        _ => {
            let detail = format!(
                "limits on {} hold, on {} they do not",
                named(true),
                named(false)
            );
            Finding::lacking(State::Limited, detail, remedy)
        }
    }
}

/// What `pasta` makes its interface with.
const TUN: &str = "/dev/net/tun";

/// What a plain user's instances reach.
fn outside(pasta: bool, tun: &Path) -> Finding {
    let lacking = |detail: &str, remedy: &str| {
        let detail = format!("instances and builds reach nothing outside{detail}");
        Finding::lacking(State::Limited, detail, remedy)
    };
    if !pasta {
        return lacking("", "install pasta (package `passt`); or run as root");
    }
    match fs::OpenOptions::new().read(true).write(true).open(tun) {
        Ok(_) => Finding::ok("instances and builds reach the outside through pasta".to_owned()),
        Err(error) => lacking(
            &format!(
                ": pasta is installed, but cannot open {} ({error})",
                tun.display()
            ),
            &format!(
                "let root run `chmod 666 {}`, as most systems have it; or run as root",
                tun.display()
            ),
        ),
    }
}

/// What instances of root have.
fn addresses() -> Finding {
    match network::probe_filter() {
        Ok(()) => {
            Finding::ok("instances have addresses and a packet filter between them".to_owned())
        }
        Err(error) => Finding::lacking(
            State::Missing,
            format!("there is no packet filter: {error}"),
            "load the kernel module nf_tables (`modprobe nf_tables`), and give this process the capability CAP_NET_ADMIN",
        ),
    }
}

/// The program of that name, if it is where programs are. The search path belongs to whoever runs this, and may lead anywhere.
fn installed(name: &str) -> Option<PathBuf> {
    const FOLDERS: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];
    FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

impl Finding {
    fn ok(detail: String) -> Self {
        Self {
            state: State::Ok,
            detail,
            remedy: None,
        }
    }

    fn lacking(state: State, detail: String, remedy: &str) -> Self {
        Self {
            state,
            detail,
            remedy: Some(remedy.to_owned()),
        }
    }
}

/// What the helper tried.
#[derive(Debug, Serialize, Deserialize)]
struct Tried {
    namespaces: Outcome,
    overlay: Outcome,
    seccomp: Outcome,
}

/// `None`: it worked. Otherwise why not.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome(Option<String>);

impl Outcome {
    fn of<T, E: ToString>(result: std::result::Result<T, E>) -> Self {
        Self(result.err().map(|error| error.to_string()))
    }

    fn finding(&self, name: &str, remedy: &str) -> Finding {
        match &self.0 {
            None => Finding::ok(format!("{name} work")),
            Some(why) => Finding::lacking(
                State::Missing,
                format!("{name} do not work ({why})"),
                remedy,
            ),
        }
    }
}

/// Tries things out in this process, which is of no further use, and prints what came of it.
#[expect(
    clippy::print_stdout,
    reason = "the standard output is how this process answers the one that started it"
)]
pub(crate) fn probe(scratch: &Path) -> i32 {
    let root = nix::unistd::geteuid().is_root();
    let namespaces = Outcome::of(try_namespaces(root));
    let overlay = match &namespaces.0 {
        None => Outcome::of(try_overlay(scratch, root)),
        Some(_) => Outcome(None),
    };
    let tried = Tried {
        namespaces,
        overlay,
        seccomp: Outcome::of(Filter::compile().and_then(|filter| filter.install())),
    };
    match serde_json::to_string(&tried) {
        Ok(text) => {
            println!("{text}");
            0
        }
        Err(_) => 1,
    }
}

fn try_namespaces(root: bool) -> io::Result<()> {
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS;
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    if !root {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags)?;
    if !root {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("1000 {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("1000 {group} 1"))?;
    }
    Ok(())
}

fn try_overlay(scratch: &Path, root: bool) -> io::Result<()> {
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM,
    )?;
    rustix::mount::mount("tmpfs", scratch, "tmpfs", MountFlags::NODEV, None)?;
    std::env::set_current_dir(scratch)?;
    for folder in ["lower", "upper", "work", "root"] {
        fs::create_dir(folder)?;
    }
    let options = match root {
        true => c"lowerdir=lower,upperdir=upper,workdir=work",
        false => c"lowerdir=lower,upperdir=upper,workdir=work,userxattr",
    };
    rustix::mount::mount("overlay", "root", "overlay", MountFlags::NODEV, options)?;
    fs::write("root/file", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tried: &Tried) -> Report {
        Report::of(tried)
    }

    #[test]
    fn a_refusal_names_what_is_missing_and_the_ways_out() {
        let tried = Tried {
            namespaces: Outcome(Some("operation not permitted".to_owned())),
            overlay: Outcome(None),
            seccomp: Outcome(None),
        };
        let message = report(&tried).isolation().unwrap_err().to_string();
        assert!(
            message.contains("namespaces do not work (operation not permitted)"),
            "{message}"
        );
        assert!(message.contains("--isolation none"), "{message}");
    }

    #[test]
    fn pasta_counts_where_it_can_make_an_interface() {
        assert_eq!(outside(true, Path::new("/dev/null")).state, State::Ok);
        let nowhere = outside(true, Path::new("/nonexistent/tun"));
        assert_eq!(nowhere.state, State::Limited);
        assert!(
            nowhere.detail.contains("cannot open /nonexistent/tun"),
            "{nowhere:?}"
        );
        assert_eq!(outside(false, Path::new("/dev/null")).state, State::Limited);
    }

    #[test]
    fn without_system_call_filters_nothing_is_called_a_sandbox() {
        let tried = Tried {
            namespaces: Outcome(None),
            overlay: Outcome(None),
            seccomp: Outcome(Some("invalid argument".to_owned())),
        };
        assert!(report(&tried).isolation().is_err());
    }
}
