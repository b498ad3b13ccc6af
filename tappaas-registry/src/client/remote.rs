use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use oci_distribution::{
    Client, Reference as OciReference, RegistryOperation, errors::OciEnvelope,
    secrets::RegistryAuth,
};
use reqwest::Response;
use tappaas_core::{Error, Result, backend::Repository};

use super::{
    config::{Config, Credential},
    failure::{failed, kind_of_status},
};

/// How much of an answer that is read whole is taken.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// How many tokens are remembered.
const TOKENS_MAX: usize = 1024;
/// How much of a refusal goes into a message.
const REFUSAL_CHARS_MAX: usize = 300;

/// A repository and where it is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) path: String,
}

impl Place {
    /// How the library calls content there.
    pub(super) fn oci(&self) -> OciReference {
        OciReference::with_tag(self.host.clone(), self.path.clone(), "latest".to_owned())
    }
}

/// Small requests to registries, with their logins. The library does the same, but reads answers without a bound.
pub(super) struct Remote {
    config: Config,
    auths: HashMap<String, RegistryAuth>,
    http: reqwest::Client,
    pub(super) oci: Client,
    tokens: Mutex<HashMap<(String, String, bool), RegistryAuth>>,
}

impl Remote {
    pub(super) fn new(config: Config, credentials: &[Credential]) -> Result<Self> {
        config.check()?;
        let failed = |error| Error::internal("cannot set up TLS for registries").with_source(error);
        let http = config.http().map_err(failed)?;
        let oci = Client::try_from(config.oci()).map_err(|error| {
            Error::internal("cannot set up TLS for registries").with_source(error)
        })?;
        let mut auths = HashMap::new();
        for credential in credentials {
            auths.insert(credential.registry.clone(), credential.auth()?);
        }
        Ok(Self {
            config,
            auths,
            http,
            oci,
            tokens: Mutex::new(HashMap::new()),
        })
    }

    /// Finds where a repository is.
    pub(super) fn place(&self, repository: &Repository) -> Result<Place> {
        let host = repository.registry().or(self.config.registry.as_deref()).ok_or_else(|| {
            Error::invalid(format!("`{repository}` names no registry, and none is configured; write `host/{repository}`"))
        })?;
        self.config.check_host(host)?;
        let path = repository.path();
        Ok(match host {
            // Everybody writes the names of the Docker Hub in their short form.
            "docker.io" if !path.contains('/') => Place {
                host: "index.docker.io".to_owned(),
                path: format!("library/{path}"),
            },
            "docker.io" => Place {
                host: "index.docker.io".to_owned(),
                path: path.to_owned(),
            },
            host => Place {
                host: host.to_owned(),
                path: path.to_owned(),
            },
        })
    }

    /// Lets the library log in by itself when it has to.
    pub(super) async fn introduce(&self, place: &Place) {
        self.oci
            .store_auth_if_needed(&place.host, &self.auth(place))
            .await;
    }

    /// Sends a request, logging in if the registry wants that. `None`: what it asks for is not there.
    pub(super) async fn send(
        &self,
        place: &Place,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Option<Response>> {
        let Place { host, path: name } = place;
        let url = format!("{}://{host}/v2/{name}/{path}", self.config.scheme(host));
        let writes = !method.is_safe();
        let mut response = self.attempt(place, &method, &url, &headers, &body).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.log_in(place, writes).await?;
            response = self.attempt(place, &method, &url, &headers, &body).await?;
        }
        match response.status() {
            status if status.is_success() => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            status => {
                let refusal = whole(response).await.unwrap_or_default();
                let reason = reason(&refusal);
                let message =
                    format!("registry `{host}` answers {status} to {method} {name}/{path}{reason}");
                Err(Error::new(kind_of_status(status), message))
            }
        }
    }

    async fn attempt(
        &self,
        place: &Place,
        method: &Method,
        url: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response> {
        let request = self.http.request(method.clone(), url);
        let request = match self.token(place, !method.is_safe()) {
            Some(RegistryAuth::Bearer(token)) => request.bearer_auth(token),
            Some(RegistryAuth::Basic(user, password)) => request.basic_auth(user, Some(password)),
            Some(RegistryAuth::Anonymous) | None => request,
        };
        let request = request.headers(headers.clone()).body(body.clone());
        request.send().await.map_err(|error| {
            Error::unavailable(format!("cannot reach registry `{}`", place.host))
                .with_source(error.without_url())
        })
    }

    async fn log_in(&self, place: &Place, writes: bool) -> Result<()> {
        let operation = if writes {
            RegistryOperation::Push
        } else {
            RegistryOperation::Pull
        };
        let auth = self.auth(place);
        let token = self.oci.auth(&place.oci(), &auth, operation).await;
        let token = token.map_err(|error| failed("log in to", &place.host, error))?;
        let login = match (token, auth) {
            (Some(token), _) => RegistryAuth::Bearer(token),
            (None, auth) => auth,
        };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.insert((place.host.clone(), place.path.clone(), writes), login);
        Ok(())
    }

    fn token(&self, place: &Place, writes: bool) -> Option<RegistryAuth> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens
            .get(&(place.host.clone(), place.path.clone(), writes))
            .cloned()
    }

    fn auth(&self, place: &Place) -> RegistryAuth {
        self.auths
            .get(&place.host)
            .cloned()
            .unwrap_or(RegistryAuth::Anonymous)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Reads an answer whole, within bounds.
pub(super) async fn whole(mut response: Response) -> Result<Bytes> {
    let mut whole = BytesMut::new();
    let broke = |error: reqwest::Error| {
        Error::unavailable("registry's answer broke off").with_source(error.without_url())
    };
    while let Some(chunk) = response.chunk().await.map_err(broke)? {
        if whole.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Error::exhausted(format!(
                "registry's answer is larger than {ANSWER_BYTES_MAX} bytes"
            )));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// What a refusal says, from the specification's shape or as plain text; printable and short.
fn reason(refusal: &[u8]) -> String {
    let text = match serde_json::from_slice::<OciEnvelope>(refusal) {
        Ok(OciEnvelope { errors }) => {
            let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
            messages.join("; ")
        }
        Err(_) => String::from_utf8_lossy(refusal).trim().to_owned(),
    };
    let printable: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(REFUSAL_CHARS_MAX)
        .collect();
    if printable.is_empty() {
        printable
    } else {
        format!(": {printable}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_one_printable_line() {
        let envelope = r#"{"errors":[{"code":"DENIED","message":"no\u001b[31m"},{"code":"X","message":"never"}]}"#;
        assert_eq!(reason(envelope.as_bytes()), ": no [31m; never");
        assert_eq!(reason(b"<html>\n</html>\n"), ": <html> </html>");
        assert_eq!(reason(b""), "");
        assert_eq!(reason(&[b'x'; 1000]).len(), 2 + REFUSAL_CHARS_MAX);
    }
}
