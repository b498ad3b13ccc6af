use std::{
    fs,
    process::{Command, Stdio},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

use crate::Outcome;

/// A testbed, as its file of facts tells of it.
pub(crate) struct Cluster {
    kubectl: Vec<String>,
    kubeconfig: String,
}

impl Cluster {
    pub(crate) fn read(facts: &str) -> Outcome<Self> {
        let facts: Value = serde_json::from_slice(&fs::read(facts)?)?;
        Ok(Self {
            kubectl: serde_json::from_value(facts["kubectl"].clone())?,
            kubeconfig: serde_json::from_value(facts["kubeconfig"].clone())?,
        })
    }

    /// Who sees everything, and does nothing.
    pub(crate) async fn client(&self) -> Outcome<Client> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(Client::try_from(config)?)
    }

    /// A run of `kubectl` whose output nobody needs.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl[0]);
        command.args(&self.kubectl[1..]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Runs `kubectl`, and answers what it says. It has to succeed.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Outcome<String> {
        let output = self.command(words).stdout(Stdio::piped()).output()?;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout)?.trim().to_owned()),
            false => Err(format!("kubectl {}: {}", words.join(" "), output.status).into()),
        }
    }
}
