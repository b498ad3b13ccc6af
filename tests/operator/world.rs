//! An installation with an operator beside the cluster, which has no more rights than one inside.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tappaas::{core::Kind, k8s::Installation};
use tappaas_testkit::conformance::until;
use tempfile::TempDir;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::cluster::Cluster;

/// An installation of which nothing is shared with another test's.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) installation: Installation,
    folder: TempDir,
    /// The way to the API server, if operators do not go straight there.
    server: Option<String>,
    _turn: Turn,
}

/// Who uses the cluster: several at a time, or one that harms it.
static CLUSTER: RwLock<()> = RwLock::const_new(());

enum Turn {
    Shared {
        _guard: RwLockReadGuard<'static, ()>,
    },
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
}

impl World {
    /// Installs all but a running operator.
    pub(crate) async fn install(name: &str, image: &str, replicas: u32) -> Self {
        let _guard = CLUSTER.read().await;
        Self::installed(name, image, replicas, Turn::Shared { _guard })
    }

    /// An installation with one operator, and the namespace of an environment in it.
    pub(crate) async fn begun(name: &str, environment: &str) -> (Self, Operator, String) {
        let world = Self::install(name, "unused", 0).await;
        let operator = world.operator("one").await;
        let namespace = world.environment(environment).await;
        (world, operator, namespace)
    }

    /// As [`World::install`], while no other test uses the cluster.
    pub(crate) async fn alone(name: &str) -> Self {
        let _guard = CLUSTER.write().await;
        Self::installed(name, "unused", 0, Turn::Alone { _guard })
    }

    fn installed(name: &str, image: &str, replicas: u32, turn: Turn) -> Self {
        let cluster = Cluster::find();
        let installation = Installation {
            namespace: format!("tappaas-{name}"),
            group: format!("{name}.tappaas.dev"),
            image: image.to_owned(),
            arguments: arguments(name),
            replicas,
        };
        let objects = installation.objects();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let words = ["apply", "--server-side", "-f", "-"];
        cluster.try_kubectl(&words, &list.to_string()).unwrap();
        let group = &installation.group;
        for definition in &objects[..Kind::ALL.len()] {
            let name = definition["metadata"]["name"].as_str().unwrap();
            let name = format!("crd/{name}");
            cluster.kubectl(&[
                "wait",
                "--for=condition=Established",
                &name,
                "--timeout=60s",
            ]);
            assert!(name.ends_with(group.as_str()), "{name}");
        }
        Self {
            cluster,
            installation,
            folder: tempfile::tempdir().unwrap(),
            server: None,
            _turn: turn,
        }
    }

    /// Sends operators that begin from now on by another way to the API server.
    pub(crate) fn through(&mut self, server: &str) {
        self.server = Some(server.to_owned());
    }

    /// Starts an operator called `identity` as a process of its own, and waits until it is ready.
    pub(crate) async fn operator(&self, identity: &str) -> Operator {
        let operator = self.begin(identity);
        let ready = until("the operator is ready", async || {
            Ok(operator.admin("/readyz").filter(|body| body == "ok\n"))
        });
        ready
            .await
            .unwrap_or_else(|error| panic!("{error:?}\n{}", operator.log()));
        operator
    }

    /// Starts an operator.
    pub(crate) fn begin(&self, identity: &str) -> Operator {
        let kubeconfig = self.kubeconfig();
        let admin = free_port();
        let log = self.folder.path().join(format!("{identity}.log"));
        let installation = &self.installation;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tappaas"));
        command
            .arg("operator")
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .arg(format!("--group={}", installation.group))
            .arg(format!("--admin=127.0.0.1:{admin}"))
            .args(&installation.arguments)
            .env("TAPPAAS_IDENTITY", identity)
            .env("TAPPAAS_NAMESPACE", &installation.namespace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap());
        Operator {
            child: command.spawn().unwrap(),
            admin,
            log,
        }
    }

    /// What an operator inside would be: its service account.
    fn kubeconfig(&self) -> PathBuf {
        let namespace = &self.installation.namespace;
        let words = ["create", "token", "tappaas", "-n", namespace];
        let token = self.cluster.kubectl(&words);
        let view = ["config", "view", "--raw", "-o=json"];
        let admin: Value = serde_json::from_str(&self.cluster.kubectl(&view)).unwrap();
        let cluster = match &self.server {
            Some(server) => json!({ "server": server }),
            None => admin["clusters"][0]["cluster"].clone(),
        };
        let context = json!({ "cluster": "it", "user": "operator" });
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "it", "cluster": cluster }],
            "users": [{ "name": "operator", "user": { "token": token } }],
            "contexts": [{ "name": "it", "context": context }],
            "current-context": "it",
        });
        let path = self.folder.path().join("kubeconfig");
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    pub(crate) fn object(&self, kind: &str, metadata: &Value, spec: &Value) -> Value {
        let version = format!("{}/v1", self.installation.group);
        json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec })
    }

    /// The full name of a kind, which several installations define.
    pub(crate) fn named(&self, plural: &str, name: &str) -> String {
        format!("{plural}.{}/{name}", self.installation.group)
    }

    /// Makes an environment, and returns its namespace.
    pub(crate) async fn environment(&self, name: &str) -> String {
        let environment = self.object("Environment", &json!({ "name": name }), &json!({}));
        self.cluster.apply(&[environment]);
        let object = self.named("environments", name);
        self.cluster.wait("default", &object, READY, "True").await;
        self.cluster.value("default", &object, ".status.namespace")
    }

    /// An application of the testbed's programs.
    pub(crate) fn application(&self, namespace: &str, name: &str, words: &[&str]) -> Value {
        let metadata = json!({ "name": name, "namespace": namespace });
        let content = json!({
            "source": { "reference": self.cluster.fact("image") },
            "processes": { "web": { "command": { "exec": words } } },
            "rollout": { "deadlineSeconds": 60 },
        });
        self.object("Application", &metadata, &json!({ "content": content }))
    }

    /// Deletes every application and environment, which leaves nothing of them.
    pub(crate) fn clear(&self) {
        for kind in ["applications", "environments"] {
            let kind = format!("{kind}.{}", self.installation.group);
            self.cluster
                .kubectl(&["delete", &kind, "-A", "--all", "--timeout=120s"]);
        }
        let own = format!("tappaas.dev/platform={}", self.installation.group);
        let words = ["get", "namespaces", "-l", &own, "-o=name"];
        assert_eq!(self.cluster.kubectl(&words), "");
    }

    /// Ends a test: clears the platform with its operator, and removes both.
    pub(crate) async fn end(self, operator: Operator) {
        self.clear();
        operator.terminate();
        self.uninstall().await;
    }

    /// Removes the installation. Nothing may be left in it.
    pub(crate) async fn uninstall(self) {
        let namespaces = ["get", "namespaces", "-o=name"];
        let (namespace, group) = (&self.installation.namespace, &self.installation.group);
        for object in self.installation.objects().iter().rev() {
            let words = ["delete", "--wait=true", "--timeout=60s", "-f", "-"];
            self.cluster
                .try_kubectl(&words, &object.to_string())
                .unwrap();
        }
        let left = self.cluster.kubectl(&namespaces);
        assert!(!left.contains(namespace.as_str()), "{left}");
        let definitions = self.cluster.kubectl(&["get", "crd", "-o=name"]);
        assert!(!definitions.contains(&format!(".{group}")), "{definitions}");
    }
}

/// Where the condition of readiness says whether it is so.
pub(crate) const READY: &str = ".status.conditions[?(@.type==\"Ready\")].status";
pub(crate) const UNREADY: &str = ".status.conditions[?(@.type==\"Ready\")].message";

/// What every operator here is told: where the testbed's gateway is, and which names are its own.
fn arguments(name: &str) -> Vec<String> {
    [
        "--gateway=testbed/testbed".to_owned(),
        // Envoy runs on the node.
        "--gateway-network=10.224.0.0/13".to_owned(),
        format!("--base={name}.example"),
    ]
    .into()
}

/// A running operator, killed when it is dropped.
pub(crate) struct Operator {
    child: Child,
    admin: u16,
    log: PathBuf,
}

impl Operator {
    /// The body of what its admin address answers, if that is good.
    pub(crate) fn admin(&self, path: &str) -> Option<String> {
        use std::io::Write as _;
        let address = (std::net::Ipv4Addr::LOCALHOST, self.admin);
        let mut stream = std::net::TcpStream::connect(address).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        .ok()?;
        let answer = std::io::read_to_string(stream).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    pub(crate) fn leads(&self) -> bool {
        let figures = self.admin("/metrics").unwrap_or_default();
        figures
            .lines()
            .any(|line| line == "tappaas_operator_leads 1")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has given up, and answers why.
    pub(crate) fn fails(mut self) -> String {
        let status = self.child.wait().unwrap();
        assert!(!status.success(), "{}", self.log());
        self.log()
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn terminate(mut self) {
        let id = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
    }
}

#[expect(clippy::print_stderr, reason = "beside the test that failed")]
impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the operator's log:\n{}", self.log());
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The folder of this project's sources.
pub(crate) fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
