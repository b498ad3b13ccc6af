//! The testbed, and how it is asked.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tappaas_testkit::conformance::until;

/// What the testbed tells of itself.
pub(crate) struct Cluster(Value);

impl Cluster {
    #[expect(
        clippy::disallowed_methods,
        reason = "a cluster is not in the repository"
    )]
    pub(crate) fn find() -> Self {
        let facts = std::env::var_os("TAPPAAS_TESTBED")
            .map(PathBuf::from)
            .expect("run by `cargo xtask test kubernetes`, which sets TAPPAAS_TESTBED");
        Self(serde_json::from_slice(&std::fs::read(facts).unwrap()).unwrap())
    }

    pub(crate) fn fact(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap()
    }

    /// Kills a component of the cluster as a crash would. It is started again.
    pub(crate) fn kill(&self, component: &str) {
        let supervisor = self.0["supervisor"].as_i64().unwrap();
        let threads = std::fs::read_dir(format!("/proc/{supervisor}/task")).unwrap();
        let children = threads.flatten().flat_map(|thread| {
            let children = std::fs::read_to_string(thread.path().join("children"));
            let children: Vec<i32> = children
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect();
            children
        });
        let of = |pid: &i32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(component.as_bytes())
        };
        let pid = children.into_iter().find(of).expect("it runs");
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// Runs `kubectl`, and returns what it says.
    pub(crate) fn kubectl(&self, words: &[&str]) -> String {
        self.try_kubectl(words, "").unwrap()
    }

    /// Applies objects as people do.
    pub(crate) fn apply(&self, objects: &[Value]) {
        for object in objects {
            self.try_kubectl(&["apply", "-f", "-"], &object.to_string())
                .unwrap();
        }
    }

    pub(crate) fn try_kubectl(&self, words: &[&str], input: &str) -> Result<String, String> {
        let program = self.0["kubectl"].as_array().unwrap();
        let mut program = program.iter().map(|word| word.as_str().unwrap());
        let mut command = Command::new(program.next().unwrap());
        command.args(program).args(words);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    /// The value at a path of an object, in `kubectl`'s JSONPath; empty if there is none.
    pub(crate) fn value(&self, namespace: &str, object: &str, path: &str) -> String {
        let path = format!("-o=jsonpath={{{path}}}");
        let words = ["get", "-n", namespace, object, &path];
        self.try_kubectl(&words, "").unwrap_or_default()
    }

    /// Waits until a value at a path of an object is this one.
    pub(crate) async fn wait(&self, namespace: &str, object: &str, path: &str, value: &str) {
        let what = format!("{path} of {object} is {value}");
        self.until(namespace, object, path, &what, |found| found == value)
            .await;
    }

    /// Waits until a value at a path of an object has these words.
    pub(crate) async fn tells(&self, namespace: &str, object: &str, path: &str, words: &str) {
        let what = format!("{path} of {object} tells {words:?}");
        self.until(namespace, object, path, &what, |found| {
            found.contains(words)
        })
        .await;
    }

    async fn until(
        &self,
        namespace: &str,
        object: &str,
        path: &str,
        what: &str,
        good: impl Fn(&str) -> bool,
    ) {
        let reached = until(what, async || {
            Ok(good(&self.value(namespace, object, path)).then_some(()))
        });
        if let Err(error) = reached.await {
            let found = self.try_kubectl(&["get", "-n", namespace, object, "-o=yaml"], "");
            panic!("{error:?}\n{}", found.unwrap_or_else(|error| error));
        }
    }

    /// What answers a GET through the gateway: status and body.
    pub(crate) fn page(&self, host: &str) -> Result<(u16, String), std::io::Error> {
        let gateway = self.fact("gateway").trim_start_matches("http://");
        let gateway: SocketAddr = gateway.parse().unwrap();
        let mut stream = TcpStream::connect_timeout(&gateway, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(
            stream,
            "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        )?;
        let answer = std::io::read_to_string(stream)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.unwrap_or(0), body.to_owned()))
    }

    /// Waits until a host answers with a body that has these words.
    pub(crate) async fn answers(&self, host: &str, body: &str) {
        let what = format!("{host} answers {body}");
        let answered = until(&what, async || {
            let page = self.page(host);
            Ok(page
                .ok()
                .filter(|(status, found)| *status == 200 && found.contains(body)))
        });
        if let Err(error) = answered.await {
            let page = self.page(host);
            let behind = [
                "get",
                "pods,services,endpointslices,httproutes,events",
                "-A",
                "-o=wide",
            ];
            let behind = self.try_kubectl(&behind, "");
            let behind = behind.unwrap_or_else(|error| error);
            panic!("{error:?}\nit answers {page:?}, and this is behind it:\n{behind}");
        }
    }
}
