use std::path::PathBuf;

use anyhow::{Result, bail};
use tappaas_api::{
    client::Client,
    types::{EnvironmentPath, ProjectPath},
};

use crate::{cli::Global, output::Printer, place::DataDir};

/// A command's connection to a running server, and what was said for every command.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) socket: PathBuf,
    pub(super) environment: EnvironmentPath,
    pub(super) printer: Printer,
}

impl Session {
    /// Connects to the server of a data directory.
    pub(super) async fn open(data: &DataDir, global: &Global, printer: Printer) -> Result<Self> {
        let session = Self::new(data, global, printer);
        if !session.alive().await {
            let shown = data.path().display();
            bail!(
                "no server runs with data directory {shown}; start one with `tappaas serve`, or name another with --data-dir"
            );
        }
        Ok(session)
    }

    pub(super) fn new(data: &DataDir, global: &Global, printer: Printer) -> Self {
        Self {
            client: Client::new(data.socket()),
            socket: data.socket(),
            environment: EnvironmentPath {
                tenant: global.tenant.clone(),
                project: global.project.clone(),
                environment: global.env.clone(),
            },
            printer,
        }
    }

    /// Says whether a server answers.
    pub(super) async fn alive(&self) -> bool {
        self.client.version().await.is_ok()
    }

    pub(super) fn project(&self) -> ProjectPath {
        ProjectPath {
            tenant: self.environment.tenant.clone(),
            project: self.environment.project.clone(),
        }
    }
}
