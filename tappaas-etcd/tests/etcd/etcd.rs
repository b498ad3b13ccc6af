use std::{
    fs::File,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tappaas_etcd::Config;
use tappaas_testkit::conformance::until;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// A member of a cluster in a process of its own, on an address of its own. Killed when it is dropped, and its data with it.
pub(crate) struct Etcd {
    address: Ipv4Addr,
    scheme: &'static str,
    data: TempDir,
    arguments: Vec<String>,
    process: Mutex<Option<Child>>,
}

impl Etcd {
    /// A cluster of one, ready to answer.
    pub(crate) async fn start(options: &[&str]) -> Self {
        let [one] = Self::cluster(["tappaas-one"], options).await;
        one
    }

    /// One that all tests share that want nothing special: it ends with the last of them.
    pub(crate) async fn shared() -> Arc<Self> {
        static SHARED: tokio::sync::Mutex<Weak<Etcd>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(etcd) = shared.upgrade() {
            return etcd;
        }
        let etcd = Arc::new(Self::start(&[]).await);
        *shared = Arc::downgrade(&etcd);
        etcd
    }

    /// A cluster of members by these names, ready to answer.
    pub(crate) async fn cluster<const N: usize>(names: [&str; N], options: &[&str]) -> [Self; N] {
        let addresses = names.map(|name| (name, own_address()));
        let peers = addresses.map(|(name, address)| format!("{name}=http://{address}:2380"));
        let peers = peers.join(",");
        let members = addresses.map(|(name, address)| Self::member(name, address, &peers, options));
        for member in &members {
            member.ready().await;
        }
        members
    }

    fn member(name: &str, address: Ipv4Addr, peers: &str, options: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let scheme = match options.contains(&"--auto-tls") {
            true => "https",
            false => "http",
        };
        let (client, peer) = (
            format!("{scheme}://{address}:2379"),
            format!("http://{address}:2380"),
        );
        let data_folder = data.path().to_string_lossy();
        let arguments = [
            ("--name", name),
            ("--data-dir", &*data_folder),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", peers),
        ];
        let arguments = arguments.map(|(name, value)| format!("{name}={value}"));
        let options = options.iter().map(|&option| option.to_owned());
        let etcd = Self {
            address,
            scheme,
            arguments: arguments.into_iter().chain(options).collect(),
            data,
            process: Mutex::default(),
        };
        etcd.spawn();
        etcd
    }

    /// How a store at a prefix is to be opened.
    pub(crate) fn config(&self, prefix: &str) -> Config {
        Config::new([self.endpoint()], prefix)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("{}://{}:2379", self.scheme, self.address)
    }

    /// The certificate that `--auto-tls` makes.
    pub(crate) fn certificate(&self) -> String {
        let path = self.data.path().join("fixtures/client/cert.pem");
        std::fs::read_to_string(path).unwrap()
    }

    /// As a power cut does it to the process.
    pub(crate) fn kill(&self) {
        let process = self.process();
        if let Some(mut process) = process {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Lets it hang, until it is killed.
    pub(crate) fn pause(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let process = Pid::from_child(process.as_ref().unwrap());
        kill_process(process, Signal::STOP).unwrap();
    }

    pub(crate) async fn restart(&self) {
        self.spawn();
        self.ready().await;
    }

    /// Asks in JSON, which etcd takes as well.
    pub(crate) async fn ask(&self, path: &str, body: Value) -> Value {
        self.ask_as(None, path, body).await
    }

    /// Asks as the user whose token this is.
    pub(crate) async fn ask_as(&self, token: Option<&str>, path: &str, body: Value) -> Value {
        let asked = until("etcd does it", async || {
            let answer = self.try_ask(token, path, body.clone()).await?;
            let told = answer["error"].as_str().unwrap_or_default();
            let is = |any: &[&str]| any.iter().any(|words| told.contains(words));
            // On a busy machine; and what timed out may be done all the same.
            if is(&["request timed out", "too many requests"]) {
                return Ok(None);
            }
            match told.is_empty() || is(&["already exist", "already has", "has been compacted"]) {
                true => Ok(Some(answer)),
                false => Err(format!("{path}: {told}").into()),
            }
        });
        asked.await.unwrap()
    }

    /// Forgets all changes up to a revision.
    pub(crate) async fn compact(&self, revision: u64) {
        let body = json!({ "revision": revision.to_string(), "physical": true });
        self.ask("/v3/kv/compaction", body).await;
    }

    async fn try_ask(
        &self,
        token: Option<&str>,
        path: &str,
        body: Value,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect((self.address, 2379)).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::post(path).header(header::HOST, "etcd");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string())))?;
        let answer = sender.send_request(request).await?;
        let answer = answer.into_body().collect().await?.to_bytes();
        Ok(serde_json::from_slice(&answer)?)
    }

    fn spawn(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.data.path().join("log"));
        let child = Command::new("etcd")
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        let child =
            child.expect("the program `etcd` is needed, as Debian's package `etcd-server` has it");
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    }

    fn process(&self) -> Option<Child> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.take()
    }

    /// Waits until it has a leader and answers.
    async fn ready(&self) {
        let ready = until("etcd answers", async || {
            if self.scheme == "https" {
                // Only what speaks TLS can ask it more.
                let there = TcpStream::connect((self.address, 2379)).await;
                return Ok(there.ok().map(|_| ()));
            }
            let range = json!({ "key": "AA==" });
            let answer = self.try_ask(None, "/v3/kv/range", range).await;
            // With authentication it says that it wants a user.
            let there = |answer: &Value| {
                let told = answer["error"].as_str().unwrap_or_default();
                !answer["header"].is_null() || told.contains("user name is empty")
            };
            Ok(answer.ok().filter(there).map(|_| ()))
        });
        if let Err(error) = ready.await {
            let log = std::fs::read_to_string(self.data.path().join("log"));
            panic!("{error}: {}", log.unwrap_or_default());
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address of this machine that no other test has: all of 127/8 are.
fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let part = |number: u32| u8::try_from(number % 250 + 1).unwrap();
    Ipv4Addr::new(127, part(process / 250), part(process), part(count))
}
