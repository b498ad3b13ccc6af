use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use toml::Value;

use crate::Result;
use crate::waiting::within;

/// What a platform makes of an application.
const MADE: &str = "pods,services,deployments,statefulsets,jobs,configmaps,secrets,serviceaccounts,\
    networkpolicies,poddisruptionbudgets,httproutes,persistentvolumeclaims";
/// How long pods that have been stopped may be seen.
const GONE_MAX: Duration = Duration::from_secs(60);
/// A cluster that runs.
pub(crate) struct Cluster {
    pub(super) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    /// Where its proxies listen.
    pub(crate) gateway: SocketAddr,
    /// This machine, as its nodes know it.
    pub(crate) host: IpAddr,
    pub(super) registries: PathBuf,
}

impl Cluster {
    /// Its Gateway, and where requests come from.
    pub(crate) const GATEWAY: &str = "testbed/testbed";
    pub(crate) const GATEWAY_NETWORK: &str = "10.224.0.0/13";

    /// Tells its nodes where a registry is (containerd's `hosts.toml`).
    pub(crate) fn introduce(&self, registry: &str, address: SocketAddr) -> Result {
        let folder = self.registries.join(registry);
        fs::create_dir_all(&folder)?;
        let server = format!("http://{address}");
        let allowed = vec![Value::from("pull"), Value::from("resolve")];
        let host = table([("capabilities", allowed.into())]);
        let hosts = table([
            ("server", server.as_str().into()),
            ("host", table([(&server, host)])),
        ]);
        Ok(fs::write(
            folder.join("hosts.toml"),
            toml::to_string(&hosts)?,
        )?)
    }

    pub(crate) fn forget(&self, registry: &str) -> Result {
        Ok(fs::remove_dir_all(self.registries.join(registry))?)
    }

    /// Nothing of an application is left.
    pub(crate) fn nothing_of(&self, name: &str) -> Result {
        let mut left = String::new();
        let clean = within(GONE_MAX, || {
            left = self.made_by_a_platform()?;
            Ok(!left.contains(name))
        })?;
        match clean {
            true => Ok(()),
            false => Err(format!("left in the cluster:\n{left}").into()),
        }
    }

    fn made_by_a_platform(&self) -> Result<String> {
        let mut kubectl = Command::new(&self.program);
        kubectl
            .args(["kubectl", "--kubeconfig"])
            .arg(&self.kubeconfig);
        kubectl.args(["get", MADE, "--all-namespaces", "-o", "name"]);
        let output = kubectl
            .args(["-l", "app.kubernetes.io/managed-by=tappaas"])
            .output()?;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout)?),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
        }
    }
}

/// A table of a configuration.
pub(crate) fn table<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    let pairs = pairs.map(|(key, value)| (key.to_owned(), value));
    Value::Table(pairs.into_iter().collect())
}
