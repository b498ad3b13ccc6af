use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::waiting::within;

/// How nice what is measured and what asks it are: as the edge makes itself where root runs it. A plain user's stay as they are.
pub(super) const PRECEDENCE: &str = "-10";
const START_MAX: Duration = Duration::from_secs(30);

/// What a program of ours printed: lines of `figure NAME VALUE`, a name as often as it was measured.
pub(super) struct Printed(Vec<(String, f64)>);

impl Printed {
    /// Runs a program to its end. It has to succeed.
    pub(super) fn by(command: &mut Command) -> Result<Self> {
        Ok(Self::read(&output_of(command)?))
    }

    pub(super) fn read(text: &str) -> Self {
        let figure = |line: &str| {
            let (name, value) = line.strip_prefix("figure ")?.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter_map(figure).collect())
    }

    /// The only sample of this name.
    pub(super) fn one(&self, name: &str) -> Result<f64> {
        match self.all(name).as_slice() {
            [one] => Ok(*one),
            others => Err(format!("{} figures `{name}` instead of one", others.len()).into()),
        }
    }

    /// Every sample of this name.
    pub(super) fn all(&self, name: &str) -> Vec<f64> {
        let own = self.0.iter().filter(|(found, _)| found == name);
        own.map(|(_, value)| *value).collect()
    }
}

/// Runs a program to its end and answers what it printed. It has to succeed.
pub(super) fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(printed),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{command:?} failed: {}\n{printed}{said}", output.status).into())
        }
    }
}

/// A server that ends when this is dropped.
pub(super) struct Server(Child);

impl Server {
    /// Starts a server and waits until somebody answers at its port.
    pub(super) fn start(command: &mut Command, port: u16) -> Result<Self> {
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = quiet
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let mut server = Self(child);
        let mut ended = false;
        let answers = || {
            ended = server.0.try_wait()?.is_some();
            Ok(ended || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        };
        match within(START_MAX, answers)? && !ended {
            true => Ok(server),
            false => Err(format!("{command:?} does not serve on port {port}").into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already needs no end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_from_what_else_is_printed() {
        let printed = Printed::read("hello\nfigure a 1.5\nfigure b 2\nfigure b 3\nfigure c x\n");
        assert_eq!(printed.one("a").unwrap().to_string(), "1.5");
        assert_eq!(printed.all("b"), [2.0, 3.0]);
        assert!(printed.one("b").is_err());
        assert!(printed.one("c").is_err());
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error() {
        let error = Server::start(&mut Command::new("true"), 1).err().unwrap();
        assert!(
            error.to_string().contains("does not serve on port 1"),
            "{error}"
        );
    }
}
