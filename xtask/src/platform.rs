use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::http::{fetch, fetch_from};
use crate::waiting::{wait_for, within};

/// A build may have to download a language's packages first.
const COMMAND_MAX: Duration = Duration::from_secs(600);
const START_MAX: Duration = Duration::from_secs(30);

/// The program `tappaas` with a data directory and ports of its own, and its server.
pub(crate) struct Platform {
    program: PathBuf,
    folder: PathBuf,
    /// Where applications are served.
    pub(crate) front: SocketAddr,
    admin: u16,
    /// What its server is put together from, if not from what there is on this machine.
    config: Option<PathBuf>,
    server: Option<Child>,
}

impl Platform {
    /// A platform in `folder`. Its server does not run yet.
    pub(crate) fn new(program: &Path, folder: &Path) -> Result<Self> {
        Ok(Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            front: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)),
            admin: free_port()?,
            config: None,
            server: None,
        })
    }

    /// A platform whose applications are served elsewhere, as its configuration says.
    pub(crate) fn elsewhere(
        program: &Path,
        folder: &Path,
        front: SocketAddr,
        config: PathBuf,
    ) -> Result<Self> {
        let mut platform = Self::new(program, folder)?;
        platform.front = front;
        platform.config = Some(config);
        Ok(platform)
    }

    /// Starts the server and waits until it is ready.
    pub(crate) fn serve(&mut self) -> Result {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("server.log"))?;
        let mut command = self.command("serve");
        match &self.config {
            Some(config) => command.arg("--config").arg(config),
            None => command.arg("--http").arg(self.front.to_string()),
        };
        command
            .arg("--admin")
            .arg(format!("127.0.0.1:{}", self.admin));
        let server = command.stderr(log).stdin(Stdio::null()).spawn()?;
        self.server = Some(server);
        let ready = || Ok(self.figures("/readyz").is_ok());
        match within(START_MAX, ready)? {
            true => Ok(()),
            false => {
                let log = fs::read_to_string(self.folder.join("server.log"))?;
                Err(format!("the server does not become ready:\n{log}").into())
            }
        }
    }

    /// Where the API listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("data/api.sock")
    }

    pub(crate) fn server_pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Kills the server as a crash would: at once, with no time to say anything.
    pub(crate) fn kill_server(&mut self) -> Result {
        if let Some(mut server) = self.server.take() {
            server.kill()?;
            server.wait()?;
        }
        Ok(())
    }

    /// Runs a command of the program, shows it, and answers what it printed. It has to succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String> {
        println!("$ tappaas {}", arguments.join(" "));
        self.run_with(arguments, Stdio::inherit())
    }

    /// As [`Self::run`], and shows nothing unless it fails.
    pub(crate) fn run_quietly(&self, arguments: &[&str]) -> Result<String> {
        let notes = self.folder.join("notes");
        self.run_with(arguments, File::create(&notes)?.into())
            .map_err(|error| {
                let notes = fs::read_to_string(&notes).unwrap_or_default();
                format!("{error}:\n{notes}").into()
            })
    }

    /// Runs a command that has to fail, and answers what it said.
    pub(crate) fn fail(&self, arguments: &[&str]) -> Result<String> {
        println!("$ tappaas {}", arguments.join(" "));
        let notes = self.folder.join("notes");
        match self.run_with(arguments, File::create(&notes)?.into()) {
            Ok(_) => Err(format!("`tappaas {}` succeeded", arguments.join(" ")).into()),
            Err(_) => Ok(fs::read_to_string(&notes)?),
        }
    }

    /// The instances of an application, by their identifiers.
    pub(crate) fn instances_of(&self, app: &str) -> Result<BTreeSet<String>> {
        let status = self.run_quietly(&["status", app])?;
        let table = status
            .split_once("INSTANCE")
            .ok_or("there is no table of instances")?;
        let rows = table.1.lines().skip(1);
        let first = rows.filter_map(|row| row.split_whitespace().next());
        Ok(first.map(str::to_owned).collect())
    }

    fn run_with(&self, arguments: &[&str], notes: Stdio) -> Result<String> {
        let (first, rest) = arguments.split_first().ok_or("no command")?;
        let printed = self.folder.join("printed");
        let mut child = self
            .command(first)
            .args(rest)
            .stdin(Stdio::null())
            .stdout(File::create(&printed)?)
            .stderr(notes)
            .spawn()?;
        match wait_for(&mut child, COMMAND_MAX)? {
            true => Ok(fs::read_to_string(&printed)?),
            false => Err(format!("`tappaas {}` failed", arguments.join(" ")).into()),
        }
    }

    /// The body of an application's front page.
    pub(crate) fn page(&self, app: &str) -> Result<String> {
        let host = format!("{app}.localhost");
        reply_body(&fetch_from(self.front, &host, "/")?)
    }

    /// What the admin address answers.
    pub(crate) fn figures(&self, path: &str) -> Result<String> {
        reply_body(&fetch("localhost", path, self.admin)?)
    }

    /// What the figures have while an application has one instance.
    pub(crate) fn figure_of(&self, app: &str) -> String {
        match self.config {
            // Nobody tells how requests flow through a cluster's proxies.
            Some(_) => "tappaas_instances{state=\"ready\"} 1".to_owned(),
            None => format!("{app}/"),
        }
    }

    /// The processes that outlive the server: the edge, and of each instance its shim and what it runs.
    pub(crate) fn lasting(&self) -> Result<Vec<u32>> {
        let mut lasting = self.edges()?;
        for shim in self.helpers("__shim")? {
            lasting.push(shim);
            lasting.extend(children(shim));
        }
        lasting.sort_unstable();
        Ok(lasting)
    }

    /// The edge; two of them while one takes over from the other.
    pub(crate) fn edges(&self) -> Result<Vec<u32>> {
        self.helpers("__edge")
    }

    /// What the instances run.
    pub(crate) fn instances(&self) -> Result<Vec<u32>> {
        let shims = self.helpers("__shim")?;
        Ok(shims.into_iter().flat_map(children).collect())
    }

    fn helpers(&self, kind: &str) -> Result<Vec<u32>> {
        let folder = self.folder.join("data");
        let entries = fs::read_dir("/proc")?.flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
        Ok(pids.filter(|pid| is_helper(*pid, kind, &folder)).collect())
    }

    /// Stops every application, the edge and the server.
    pub(crate) fn stop(&mut self) -> Result {
        // In a cluster they go on, if there are any left.
        match self.config {
            Some(_) => self.run(&["stop"])?,
            None => self.run(&["stop", "--apps"])?,
        };
        let ended = match self.server.take() {
            Some(mut server) => wait_for(&mut server, START_MAX)?,
            None => true,
        };
        match ended {
            true => Ok(()),
            false => Err("the server ended with an error".into()),
        }
    }

    /// A command of the program, for this platform.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(name)
            .arg("--data-dir")
            .arg(self.folder.join("data"));
        command
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        // Only after a failure does the server still run. What it started goes with it, as far as it can still be asked.
        if self.server.is_some() && self.stop().is_err() {
            self.kill_server().ok();
        }
    }
}

fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    children
        .split(' ')
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// A helper has as its second word what it is, and as its third where it keeps its things.
fn is_helper(pid: u32, kind: &str, folder: &Path) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).into_owned();
    let words: Vec<_> = command.split('\0').collect();
    words.get(1).is_some_and(|word| *word == kind)
        && words
            .get(2)
            .is_some_and(|word| Path::new(word).starts_with(folder))
}

pub(crate) fn free_port() -> Result<u16> {
    free_port_at(Ipv4Addr::LOCALHOST.into())
}

pub(crate) fn free_port_at(address: IpAddr) -> Result<u16> {
    let listener = TcpListener::bind((address, 0))?;
    Ok(listener.local_addr()?.port())
}

fn reply_body(reply: &[u8]) -> Result<String> {
    let reply = String::from_utf8_lossy(reply);
    let (head, body) = reply
        .split_once("\r\n\r\n")
        .ok_or("the reply has no end of its head")?;
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("`{status}` instead of 200: {body}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_good_reply_has_a_body() {
        assert_eq!(
            reply_body(b"HTTP/1.0 200 OK\r\na: b\r\n\r\npage").unwrap(),
            "page"
        );
        let error = reply_body(b"HTTP/1.0 404 No\r\n\r\nnobody").unwrap_err();
        assert!(
            error.to_string().contains("404 No` instead of 200: nobody"),
            "{error}"
        );
        assert!(reply_body(b"HTTP/1.0 200 OK\r\n").is_err());
    }
}
