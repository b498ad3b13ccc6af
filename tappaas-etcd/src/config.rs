use std::fmt;

use tappaas_core::backend::Secret;

/// Where an etcd cluster is, and who asks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its members listen for clients, such as `http://127.0.0.1:2379`: of one that does not answer the next is asked. With
    /// [`Config::tls`] all of them begin with `https://`, without it with `http://`.
    pub endpoints: Vec<String>,
    /// What all keys of the store begin with, such as `/tappaas`. The store adds a `/`, so that `/a` never sees what is in `/ab`.
    pub prefix: String,
    /// Who asks, where etcd's authentication is enabled.
    pub login: Option<Login>,
    /// How to speak TLS with the members. Without it everything, passwords too, is sent as it is.
    pub tls: Option<Tls>,
}

impl Config {
    /// A cluster with these endpoints, without authentication and TLS.
    pub fn new<E: Into<String>>(
        endpoints: impl IntoIterator<Item = E>,
        prefix: impl Into<String>,
    ) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: prefix.into(),
            login: None,
            tls: None,
        }
    }
}

/// A user of etcd's authentication.
#[derive(Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The user's password, in UTF-8.
    pub password: Secret,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// How members prove who they are, and how they are told who asks.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificates, in PEM, of the authorities that sign those of the members. No others are trusted.
    pub authorities: String,
    /// What the members are to be called by their certificates, if not as in their endpoints.
    pub server_name: Option<String>,
    /// With what the platform proves who it is, where members ask for that.
    pub identity: Option<Identity>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate and those that lead to its authority, in PEM.
    pub certificates: String,
    /// The private key, in PEM.
    pub key: Secret,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let mut config = Config::new(["https://a.example:2379"], "/tappaas");
        config.login = Some(Login {
            user: "platform".to_owned(),
            password: Secret::new("open sesame"),
        });
        config.tls = Some(Tls {
            authorities: String::new(),
            server_name: None,
            identity: Some(Identity {
                certificates: String::new(),
                key: Secret::new("open sesame"),
            }),
        });
        let shown = format!("{config:?}");
        assert!(
            shown.contains("platform") && !shown.contains("sesame"),
            "{shown}"
        );
        assert!(!shown.contains(&format!("{:?}", b"open sesame")), "{shown}");
    }
}
