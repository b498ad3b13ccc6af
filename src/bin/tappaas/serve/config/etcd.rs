//! What is said of an etcd cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tappaas::etcd::{Config, Identity, Login, Tls};
use tappaas_core::backend::Secret;

/// Where it is, and who asks. Passwords and keys are in files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Etcd {
    /// Where its members listen for clients.
    endpoints: Vec<String>,
    /// What all keys begin with. Default: `/tappaas`.
    #[serde(default = "prefix")]
    prefix: String,
    user: Option<String>,
    password_file: Option<PathBuf>,
    /// The certificates, in PEM, of the authorities that sign those of the members.
    authorities_file: Option<PathBuf>,
    /// What the members are to be called by their certificates, if not as in their endpoints.
    server_name: Option<String>,
    /// With what the server proves who it is.
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

fn prefix() -> String {
    "/tappaas".to_owned()
}

impl Etcd {
    pub(super) fn cluster(self) -> Result<Config> {
        let tls = self.tls()?;
        let login = match (self.user, self.password_file) {
            (None, None) => None,
            (Some(user), Some(file)) => Some(Login {
                user,
                password: Secret::new(read(&file)?.trim_end()),
            }),
            _ => bail!("[store.etcd] needs both of `user` and `password-file`, or neither"),
        };
        Ok(Config {
            login,
            tls,
            ..Config::new(self.endpoints, self.prefix)
        })
    }

    fn tls(&self) -> Result<Option<Tls>> {
        let identity = match (&self.certificate_file, &self.key_file) {
            (None, None) => None,
            (Some(certificates), Some(key)) => Some(Identity {
                certificates: read(certificates)?,
                key: Secret::new(read(key)?),
            }),
            _ => bail!("[store.etcd] needs both of `certificate-file` and `key-file`, or neither"),
        };
        let Some(authorities) = &self.authorities_file else {
            if identity.is_some() || self.server_name.is_some() {
                bail!("[store.etcd] needs `authorities-file`: whose certificates are trusted");
            }
            return Ok(None);
        };
        Ok(Some(Tls {
            authorities: read(authorities)?,
            server_name: self.server_name.clone(),
            identity,
        }))
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
