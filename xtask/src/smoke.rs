use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use crate::Result;
use crate::census::Census;
use crate::report::now;
use crate::workspace::{Workspace, run};

const APPLICATION: &str = "examples/apps/hello";
/// From the start of a built program to an application that answers.
const UP_MAX: Duration = Duration::from_secs(120);
const STOP_MAX: Duration = Duration::from_secs(60);
/// The kernel takes network namespaces and their interfaces down in its own time.
const CLEAN_MAX: Duration = Duration::from_secs(10);
const REPLY_MAX: Duration = Duration::from_secs(10);
const REPLY_BYTES_MAX: u64 = 1 << 20;

/// Does what the README tells a newcomer, in a clone of the last commit, and then undoes it.
pub(crate) fn first_command_in_a_fresh_clone(workspace: &Workspace) -> Result {
    let scratch = Scratch::new()?;
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
    nothing_left_since(&before, &traces)?;
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
        let arguments = ["up", APPLICATION, "--detach"];
        let printed = self.tappaas(&arguments, UP_MAX, &scratch.path.join("up.log"))?;
        let (host, port) = address_in(&printed).ok_or("`up` printed no http:// address")?;
        println!(
            "up after {:.1} s; asking {host}:{port}",
            started.elapsed().as_secs_f64()
        );
        let reply = fetch(&host, port)?;
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

/// Asks the ingress on the loopback address for the front page of `host`. The resolver has no part
/// in it: many do not know `*.localhost`.
fn fetch(host: &str, port: u16) -> Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut connection = TcpStream::connect_timeout(&address, REPLY_MAX)?;
    connection.set_read_timeout(Some(REPLY_MAX))?;
    // Version 1.0 has neither chunks nor a second request: the reply ends with the connection.
    let request = format!("GET / HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    connection.take(REPLY_BYTES_MAX).read_to_end(&mut reply)?;
    Ok(reply)
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

fn nothing_left_since(before: &Census, traces: &[&str]) -> Result {
    let mut left = Vec::new();
    let clean = within(CLEAN_MAX, || {
        left = Census::take(traces).since(before);
        Ok(left.is_empty())
    })?;
    match clean {
        true => Ok(()),
        false => Err(format!("left behind after `stop --apps`:\n  {}", left.join("\n  ")).into()),
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

/// Waits for the end of `child` and answers whether it succeeded; ends it when it takes too long.
fn wait_for(child: &mut Child, time_max: Duration) -> Result<bool> {
    if within(time_max, || Ok(child.try_wait()?.is_some()))? {
        return Ok(child.wait()?.success());
    }
    child.kill()?;
    child.wait()?;
    Err(format!("no end after {} s", time_max.as_secs()).into())
}

/// Whether `condition` came true before the deadline.
#[expect(
    clippy::disallowed_methods,
    reason = "asks for a condition, again and again, until a deadline"
)]
fn within(time_max: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    let started = now();
    while !condition()? {
        if started.elapsed() > time_max {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| format!("{} is not valid UTF-8", path.display()).into())
}

/// A folder that goes when the step ends, however it ends.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("tappaas-smoke-{}", std::process::id()));
        fs::create_dir(&path)
            .map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        Ok(Self { path })
    }

    /// Removes the folder; a failure means that something still holds on to it.
    fn remove(self) -> Result {
        fs::remove_dir_all(&self.path)
            .map_err(|error| format!("cannot remove {}: {error}", self.path.display()).into())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // After a failed step the folder may still be in use; the step's own error says more.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

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
    fn a_request_names_the_host_and_returns_the_whole_reply() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let peer = std::thread::spawn(move || {
            let (mut connection, _) = server.accept().unwrap();
            let mut request = [0; 256];
            let length = connection.read(&mut request).unwrap();
            connection
                .write_all(b"HTTP/1.0 200 OK\r\n\r\npage")
                .unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        assert_eq!(
            fetch("hello.localhost", port).unwrap(),
            b"HTTP/1.0 200 OK\r\n\r\npage"
        );
        assert!(
            peer.join()
                .unwrap()
                .contains(&format!("Host: hello.localhost:{port}\r\n"))
        );
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let error = wait_for(&mut child, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "no end after 0 s");
        assert!(child.try_wait().unwrap().is_some());
    }

    #[test]
    fn a_changed_clone_is_noticed() {
        let scratch = Scratch::new().unwrap();
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
