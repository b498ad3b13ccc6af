use std::{fmt, net::IpAddr, time::Duration};

use oci_distribution::{
    client::{ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};
use serde::{Deserialize, Serialize};
use tappaas_core::{Error, ErrorKind, Result, backend::Secret};

/// Which registries a client speaks to, and how.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The host, and port if it is not 443, of the registry that has the repositories without a host in their name.
    pub registry: Option<String>,
    /// Registries on this machine that are spoken to without TLS, such as `127.0.0.1:5000`. Others are refused here.
    pub plain_http: Vec<String>,
    /// The registries that are spoken to at all; `None`: any that a repository names. Where tenants name repositories, whatever answers at
    /// an address they choose would be asked, and its answer shown to them.
    pub only: Option<Vec<String>>,
}

/// How long a registry may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a registry may send nothing in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const USER_AGENT: &str = concat!("tappaas/", env!("CARGO_PKG_VERSION"));

impl Config {
    /// Refuses what would send credentials or images over a network in the clear.
    pub(super) fn check(&self) -> Result<()> {
        match self.plain_http.iter().find(|host| !is_loopback(host)) {
            None => Ok(()),
            Some(host) => Err(Error::invalid(format!(
                "registry `{host}` is not on this machine, and so is not spoken to in plain HTTP; give it a certificate"
            ))),
        }
    }

    /// Refuses a registry that is not to be spoken to.
    pub(super) fn check_host(&self, host: &str) -> Result<()> {
        let allowed = |only: &Vec<String>| only.iter().any(|known| known == host);
        match self.only.as_ref().is_none_or(allowed) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "registry `{host}` is not among those that are asked what a tag means: name the image by its digest, or have the registry added"
                ),
            )),
        }
    }

    pub(super) fn scheme(&self, host: &str) -> &'static str {
        if self.plain_http.iter().any(|plain| plain == host) {
            "http"
        } else {
            "https"
        }
    }

    pub(super) fn oci(&self) -> ClientConfig {
        ClientConfig {
            protocol: ClientProtocol::HttpsExcept(self.plain_http.clone()),
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: USER_AGENT,
            ..ClientConfig::default()
        }
    }

    pub(super) fn http(&self) -> reqwest::Result<reqwest::Client> {
        reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(USER_AGENT)
            .build()
    }
}

/// How to log in to a registry. Its `Debug` shows no password.
#[derive(Clone)]
pub struct Credential {
    /// The registry's host, with its port if it has one.
    pub registry: String,
    /// The user's name; empty if the password is a token that is sent as it is.
    pub user: String,
    /// The password or token.
    pub password: Secret,
}

impl Credential {
    pub(super) fn auth(&self) -> Result<RegistryAuth> {
        let password = str::from_utf8(self.password.expose()).map_err(|_| {
            Error::invalid(format!(
                "password for registry `{}` is not text",
                self.registry
            ))
        })?;
        Ok(if self.user.is_empty() {
            RegistryAuth::Bearer(password.to_owned())
        } else {
            RegistryAuth::Basic(self.user.clone(), password.to_owned())
        })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("registry", &self.registry)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for (host, good) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.9.1", true),
            ("[::1]:5000", true),
            ("ghcr.io", false),
            ("10.0.0.1:5000", false),
            ("localhost.example.org", false),
            ("127.0.0.1.example.org:80", false),
            ("", false),
        ] {
            let config = Config {
                plain_http: vec![host.to_owned()],
                ..Config::default()
            };
            assert_eq!(config.check().is_ok(), good, "{host}");
        }
    }

    #[test]
    fn a_credential_shows_no_password() {
        let credential = Credential {
            registry: "ghcr.io".to_owned(),
            user: "me".to_owned(),
            password: Secret::new("hunter2"),
        };
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
