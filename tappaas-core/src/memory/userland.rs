use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{network::Failure, workloads::Workloads};
use crate::{
    backend::{ExecOutput, InstanceId, Mount, Template, WorkloadId},
    model::User,
};

/// The inside of an instance, as its processes see it: enough of a userland to try `exec` and volumes without a machine.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    pub(super) world: Arc<Workloads>,
    pub(super) workload: WorkloadId,
    pub(super) instance: InstanceId,
    pub(super) template: Arc<Template>,
}

/// The standard streams of a command.
pub(super) struct Streams {
    pub(super) input: mpsc::Receiver<Bytes>,
    pub(super) output: mpsc::Sender<ExecOutput>,
}

impl Streams {
    async fn print(&self, text: impl Into<Bytes>) -> i32 {
        let lost = self.output.send(ExecOutput::Stdout(text.into())).await;
        // A process whose output nobody reads ends by SIGPIPE.
        if lost.is_err() { 128 + 13 } else { 0 }
    }

    async fn complain(&self, text: String, code: i32) -> i32 {
        let _unread = self.output.send(ExecOutput::Stderr(text.into())).await;
        code
    }
}

impl Inside {
    /// Runs a command to its end. The commands are `cat [PATH]`, `echo`, `env`, `fetch HOST PORT`, `false`, `id -u`, `rm PATH`, `sleep SECONDS`,
    /// `tee PATH`, `true`, and `/bin/sh -c` with one of them.
    pub(super) async fn run(&self, command: &[String], streams: Streams) {
        let words: Vec<&str> = match command {
            [sh, flag, line] if sh == "/bin/sh" && flag == "-c" => {
                line.split_ascii_whitespace().collect()
            }
            argv => argv.iter().map(String::as_str).collect(),
        };
        let mut streams = streams;
        let code = self.execute(&words, &mut streams).await;
        let _unread = streams.output.send(ExecOutput::Exited(code)).await;
    }

    async fn execute(&self, words: &[&str], streams: &mut Streams) -> i32 {
        match words {
            ["cat"] => {
                while let Some(chunk) = streams.input.recv().await {
                    if streams.print(chunk).await != 0 {
                        return 1;
                    }
                }
                0
            }
            ["cat", path] => match self.world.read_file(self, Path::new(path)) {
                Some(content) => streams.print(content).await,
                None => {
                    let message = format!("cat: {path}: No such file or directory\n");
                    streams.complain(message, 1).await
                }
            },
            ["echo", words @ ..] => streams.print(words.join(" ") + "\n").await,
            ["env"] => streams.print(self.environment()).await,
            ["id", "-u"] => match self.template.user {
                User::Unprivileged => streams.print("1000\n").await,
                User::Root => streams.print("0\n").await,
            },
            ["fetch", host, port] => match self.fetch(host, port).await {
                Ok(body) => streams.print(body).await,
                Err(why) => streams.complain(format!("{host}:{port}: {why}\n"), 1).await,
            },
            ["false"] => 1,
            ["true"] => 0,
            ["rm", path] => self.write(path, None, streams).await,
            ["sleep", seconds] => {
                let seconds = std::time::Duration::from_secs(seconds.parse().unwrap_or(0));
                self.world.clock.sleep(seconds).await;
                0
            }
            ["tee", path] => {
                let mut content = Vec::new();
                while let Some(chunk) = streams.input.recv().await {
                    content.extend_from_slice(&chunk);
                }
                let content = Bytes::from(content);
                streams.print(content.clone()).await;
                self.write(path, Some(content), streams).await
            }
            [name, ..] => {
                let message = format!("{name}: not found\n");
                streams.complain(message, 127).await
            }
            [] => streams.complain("no command\n".to_owned(), 127).await,
        }
    }

    /// Sends a request to a peer: no other address is reached from inside.
    async fn fetch(&self, host: &str, port: &str) -> Result<String, &'static str> {
        let address = format!("{host}:{port}").parse();
        let address: SocketAddr = address.map_err(|_| "no such host")?;
        if !self.world.reaches(self, address) {
            return Err("no route to host");
        }
        match self.world.network.request(address, "/").await {
            Ok(answer) => Ok(answer.body),
            Err(Failure::Refused) => Err("connection refused"),
            Err(Failure::Reset) => Err("connection reset"),
        }
    }

    async fn write(&self, path: &str, content: Option<Bytes>, streams: &Streams) -> i32 {
        match self.world.write_file(self, Path::new(path), content) {
            Ok(()) => 0,
            Err(why) => streams.complain(format!("{path}: {why}\n"), 1).await,
        }
    }

    /// The volume that a path is on, and the path within it.
    pub(super) fn mounted<'a>(&'a self, path: &'a Path) -> Option<(&'a Mount, &'a Path)> {
        let mounts = self.template.mounts.iter();
        mounts
            .filter_map(|mount| Some((mount, path.strip_prefix(&mount.path).ok()?)))
            .min_by_key(|(_, inner)| inner.components().count())
    }

    fn environment(&self) -> String {
        let variables = self.template.environment.iter();
        variables
            .map(|(name, value)| format!("{name}={}\n", value.expose()))
            .collect()
    }
}
