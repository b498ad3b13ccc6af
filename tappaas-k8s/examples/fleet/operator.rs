use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Write as _, read_to_string},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tappaas_k8s::Installation;
use tokio::time::{sleep, timeout};

use crate::{Outcome, cluster::Cluster};

const START_MAX: Duration = Duration::from_secs(60);
const QUIET_MAX: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often each was asked, by verb and resource.
pub(crate) type Counts = BTreeMap<String, u64>;

/// What every operator here is told: where the testbed's gateway is, and which nodes are simulated.
pub(crate) fn arguments() -> Vec<String> {
    [
        "--gateway=testbed/testbed",
        "--gateway-network=10.224.0.0/13",
        "--base=fleet.example",
        "--runtime=edge=testbed/simulated=true",
    ]
    .map(str::to_owned)
    .into()
}

/// An operator beside the cluster with the rights of one inside; killed when it is dropped.
pub(crate) struct Operator {
    child: Child,
    admin: u16,
    log: PathBuf,
}

impl Operator {
    pub(crate) fn start(
        cluster: &Cluster,
        installation: &Installation,
        program: &Path,
        folder: &Path,
    ) -> Outcome<Self> {
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, as_operator(cluster, installation)?.to_string())?;
        let log = folder.join("operator.log");
        let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let admin = admin.local_addr()?.port();
        let mut command = Command::new(program);
        command.arg("operator").arg("--kubeconfig").arg(kubeconfig);
        command.arg(format!("--group={}", installation.group));
        command.arg(format!("--admin=127.0.0.1:{admin}"));
        command.args(&installation.arguments);
        command.env("TAPPAAS_IDENTITY", "fleet");
        command.env("TAPPAAS_NAMESPACE", &installation.namespace);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(File::create(&log)?).spawn()?;
        Ok(Self { child, admin, log })
    }

    /// Waits until it acts.
    pub(crate) async fn ready(&self) -> Outcome {
        let leads = async {
            while !self.leads() {
                sleep(LOOK_EVERY).await;
            }
        };
        let waited = timeout(START_MAX, leads).await;
        Ok(waited.map_err(|_| self.complaint("the operator does not lead"))?)
    }

    /// Waits until nothing but its lease and its watches has been asked for in a while.
    pub(crate) async fn quiet(&self, time: Duration) -> Outcome {
        let quiet = async {
            loop {
                let before = self.counts()?;
                sleep(time).await;
                if difference(&self.counts()?, &before).is_empty() {
                    return Ok(());
                }
            }
        };
        let waited = timeout(QUIET_MAX, quiet).await;
        waited.map_err(|_| self.complaint("the operator is never quiet"))?
    }

    /// How often it asked so far; lease and watches left out.
    pub(crate) fn counts(&self) -> Outcome<Counts> {
        let figures = self.page("/metrics")?;
        let counts = figures.lines().filter_map(|line| {
            let line = line.strip_prefix("tappaas_kubernetes_requests_total")?;
            let (what, count) = line.rsplit_once(' ')?;
            Some((what.to_owned(), count.parse().ok()?))
        });
        let counts = counts.filter(|(what, _)| {
            !what.contains("leases.coordination") && !what.contains("\"watch\"")
        });
        Ok(counts.collect())
    }

    /// A line of what the kernel tells of its memory.
    pub(crate) fn memory_mb(&self, name: &str) -> Outcome<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.ok_or("a process without memory")?.trim();
        Ok(kib.trim_end_matches(" kB").parse::<f64>()? * 1024.0 / 1e6)
    }

    /// Ends it as a crash would. The next one has the same identity, and with it the lease.
    pub(crate) fn kill(mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn leads(&self) -> bool {
        let figures = self.page("/metrics").unwrap_or_default();
        let mut lines = figures.lines();
        lines.any(|line| line == "tappaas_operator_leads 1")
    }

    fn page(&self, path: &str) -> Outcome<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.admin))?;
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let answer = read_to_string(stream)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no whole answer")?;
        Ok(body.to_owned())
    }

    fn complaint(&self, what: &str) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        format!("{what}:\n{log}")
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // One that has ended already needs no end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What has been asked for since.
pub(crate) fn difference(now: &Counts, before: &Counts) -> Counts {
    let since = now.iter().map(|(what, count)| {
        let before = before.get(what).copied().unwrap_or(0);
        (what.clone(), count - before)
    });
    since.filter(|(_, count)| *count > 0).collect()
}

pub(crate) fn writes(counts: &Counts) -> Counts {
    let all = counts.clone().into_iter();
    all.filter(|(what, _)| !is_read(what)).collect()
}

pub(crate) fn reads(counts: &Counts) -> Counts {
    let all = counts.clone().into_iter();
    all.filter(|(what, _)| is_read(what)).collect()
}

/// Also what is created to ask something, of which nothing is kept.
fn is_read(what: &str) -> bool {
    ["\"get\"", "\"list\"", "\"selfsubjectaccessreviews"]
        .iter()
        .any(|verb| what.contains(verb))
}

/// A kubeconfig for the service account that an operator inside would have.
fn as_operator(cluster: &Cluster, installation: &Installation) -> Outcome<Value> {
    let token = ["create", "token", "tappaas", "-n", &installation.namespace];
    let token = cluster.kubectl(&token)?;
    let view = cluster.kubectl(&["config", "view", "--raw", "-o=json"])?;
    let admin: Value = serde_json::from_str(&view)?;
    let context = json!({ "cluster": "it", "user": "operator" });
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "it", "cluster": admin["clusters"][0]["cluster"] }],
        "users": [{ "name": "operator", "user": { "token": token } }],
        "contexts": [{ "name": "it", "context": context }],
        "current-context": "it",
    }))
}
