use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::census::Census;
use crate::http::fetch;
use crate::report::now;
use crate::scratch::{Scratch, path_text};
use crate::waiting::wait_for;
use crate::workspace::{Workspace, run};

const APPLICATION: &str = "examples/apps/hello";
/// From the start of a built program to an application that answers.
const UP_MAX: Duration = Duration::from_secs(120);
const STOP_MAX: Duration = Duration::from_secs(60);

/// Does what the README tells a newcomer, in a clone of the last commit, and then undoes it.
pub(crate) fn first_command_in_a_fresh_clone(workspace: &Workspace) -> Result {
    let scratch = Scratch::new("smoke")?;
    let clone = scratch.path.join("clone");
    run(workspace
        .command("git")
        .args(["clone", "--quiet"])
        .arg(&workspace.root)
        .arg(&clone))?;
    let newcomer = Newcomer {
        clone,
        data: scratch.path.join("data"),
        target: &workspace.target,
    };
    run(&mut newcomer.cargo(&["build", "--release"]))?;

    let program = workspace.target.join("release/tappaas");
    let traces = [path_text(&scratch.path)?, path_text(&program)?];
    let before = Census::take(&traces);
    let served = newcomer.serves_the_page(&scratch);
    let stopped = newcomer.tappaas(
        &["stop", "--apps"],
        STOP_MAX,
        &scratch.path.join("stop.log"),
    );
    served?;
    stopped?;
    before.nothing_since(&traces)?;
    clone_is_untouched(&newcomer.clone)?;
    scratch.remove()
}

struct Newcomer<'a> {
    clone: PathBuf,
    data: PathBuf,
    target: &'a Path,
}

impl Newcomer<'_> {
    /// `cargo` in the clone, sharing the target folder, so that dependencies are built once.
    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command
            .args(arguments)
            .current_dir(&self.clone)
            .env("CARGO_TARGET_DIR", self.target);
        command
    }

    /// `cargo run --release -- …` with a data directory of its own: a platform that already runs
    /// on this machine is never touched. Answers what the program printed.
    fn tappaas(&self, arguments: &[&str], time_max: Duration, log: &Path) -> Result<String> {
        let mut command = self.cargo(&["run", "--quiet", "--release", "--"]);
        command.args(arguments).arg("--data-dir").arg(&self.data);
        println!("$ cargo run --release -- {}", arguments.join(" "));
        // A file and not a pipe: what a detached server inherits must not keep us waiting.
        let mut child = command.stdout(File::create(log)?).spawn()?;
        let status = wait_for(&mut child, time_max)?;
        let printed = fs::read_to_string(log)?;
        print!("{printed}");
        match status {
            true => Ok(printed),
            false => Err(format!("`tappaas {}` failed", arguments.join(" ")).into()),
        }
    }

    fn serves_the_page(&self, scratch: &Scratch) -> Result {
        let started = now();
        // Ports of its own: the defaults may serve somebody on this machine.
        let anywhere = "127.0.0.1:0";
        let arguments = [
            "up",
            APPLICATION,
            "--detach",
            "--http",
            anywhere,
            "--admin",
            anywhere,
        ];
        let printed = self.tappaas(&arguments, UP_MAX, &scratch.path.join("up.log"))?;
        let (host, port) = address_in(&printed).ok_or("`up` printed no http:// address")?;
        println!(
            "up after {:.1} s; asking {host}:{port}",
            started.elapsed().as_secs_f64()
        );
        let reply = fetch(&host, "/", port)?;
        expect_page(
            &reply,
            &fs::read(self.clone.join(APPLICATION).join("index.html"))?,
        )
    }
}

/// The host and port of the first `http://` address in the program's output.
fn address_in(printed: &str) -> Option<(String, u16)> {
    let (_, rest) = printed.split_once("http://")?;
    let end = rest.find(|one: char| !(one.is_ascii_alphanumeric() || ".-:".contains(one)));
    let (host, port) = rest[..end.unwrap_or(rest.len())].split_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

fn expect_page(reply: &[u8], page: &[u8]) -> Result {
    let text = String::from_utf8_lossy(reply);
    let status = text.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("the ingress answered `{status}` instead of 200").into());
    }
    match reply.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(end) if &reply[end + 4..] == page => Ok(()),
        _ => Err("the page served is not the page in the folder".into()),
    }
}

fn clone_is_untouched(clone: &Path) -> Result {
    let status = Command::new("git")
        .args(["status", "--porcelain"])
        .current_dir(clone)
        .output()?;
    match status.stdout.is_empty() && status.status.success() {
        true => Ok(()),
        false => {
            let changed = String::from_utf8_lossy(&status.stdout);
            Err(format!("building and running changed files of the clone:\n{changed}").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_among_other_output() {
        let printed = "built in 2 s\n\n  http://hello.localhost:8080\n  curl --resolve …\n";
        assert_eq!(
            address_in(printed),
            Some(("hello.localhost".to_owned(), 8080))
        );
        assert_eq!(
            address_in("http://hello.localhost:80/x"),
            Some(("hello.localhost".to_owned(), 80))
        );
        assert_eq!(address_in("nothing was started"), None);
    }

    #[test]
    fn only_the_very_page_passes() {
        assert!(expect_page(b"HTTP/1.0 200 OK\r\nx: y\r\n\r\npage", b"page").is_ok());
        assert!(expect_page(b"HTTP/1.0 200 OK\r\nx: y\r\n\r\nother", b"page").is_err());
        assert!(expect_page(b"HTTP/1.0 503 No\r\n\r\npage", b"page").is_err());
        assert!(expect_page(b"", b"").is_err());
    }

    #[test]
    fn a_changed_clone_is_noticed() {
        let scratch = Scratch::new("clone").unwrap();
        run(Command::new("git")
            .args(["init", "--quiet"])
            .arg(&scratch.path))
        .unwrap();
        assert!(clone_is_untouched(&scratch.path).is_ok());
        fs::write(scratch.path.join("new"), "").unwrap();
        assert!(clone_is_untouched(&scratch.path).is_err());
        scratch.remove().unwrap();
    }
}
