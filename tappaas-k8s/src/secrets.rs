//! [`SecretStore`] over Kubernetes Secrets.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use k8s_openapi::{ByteString, api::core::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PartialObjectMeta, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use sha2::{Digest as _, Sha256};
use tappaas_core::{
    Error, ErrorKind, Result,
    backend::{
        Secret, SecretCapabilities, SecretPath, SecretPrecondition, SecretStore, SecretVersion,
    },
};

use crate::{
    PlatformId,
    failure::{failure, is, within},
};

/// Where a secret is, as it was given: an object's name cannot hold every path.
const PATH: &str = "tappaas.dev/secret-path";
/// The version before, so that the same value is another version when it is written again.
const FOLLOWS: &str = "tappaas.dev/follows";
/// What marks the secrets of this store, among others that are managed by us.
const KIND: &str = "tappaas.dev/kind";
const KIND_SECRET: &str = "secret";
/// The key of the value.
const VALUE: &str = "value";
/// The most bytes of a value: an object has 1 MiB, and some of it is not the value's.
const VALUE_MAX: usize = 1_000_000;
/// Objects per request of a listing.
const CHUNK: u32 = 500;
/// How often a write that takes any version reads again because somebody else was quicker.
const ATTEMPTS: u32 = 16;
/// How much longer it waits each time before it does.
const PAUSE: Duration = Duration::from_millis(5);
/// The characters of an object's name that a person reads, and the hexadecimal digits that make it the path's alone.
const READABLE_MAX: usize = 40;
const HASH: usize = 20;

/// Keeps secrets as Secrets of one namespace, to which tenants must have no access. Of several platforms that use one namespace none sees
/// the secrets of another.
///
/// A secret's version is its object's `resourceVersion`; there is no history. How well it is kept is up to the cluster: without encryption at
/// rest etcd has it in plain text.
pub struct KubernetesSecrets {
    api: Api<v1::Secret>,
    metadata: Api<PartialObjectMeta<v1::Secret>>,
    platform: PlatformId,
}

impl KubernetesSecrets {
    /// The secrets of a platform in a namespace of the cluster that `client` speaks to. The namespace must be there.
    pub fn new(client: Client, platform: PlatformId, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            metadata: Api::namespaced(client, namespace),
            platform,
        }
    }

    fn name(&self, path: &SecretPath) -> String {
        name(&self.platform, path)
    }

    fn ours(&self) -> String {
        format!("{},{KIND}={KIND_SECRET}", self.platform.selector())
    }

    async fn read(&self, path: &SecretPath) -> Result<Option<v1::Secret>> {
        let found = within(self.api.get_opt(&self.name(path))).await;
        let found = found.map_err(|error| failure(format!("cannot read secret {path}"), error))?;
        // One that somebody else made under the name is not ours to show.
        Ok(
            found
                .filter(|found| self::path(&self.platform, &found.metadata).as_ref() == Some(path)),
        )
    }

    async fn create(&self, path: &SecretPath, value: &Secret) -> Result<u64> {
        let made = object(&self.platform, path, value, None);
        match within(self.api.create(&PostParams::default(), &made)).await {
            Ok(made) => version(path, &made.metadata),
            Err(error) if is(&error, 409) => Err(Error::already_exists(format!(
                "secret {path} exists already"
            ))),
            Err(error) => Err(failure(format!("cannot create secret {path}"), error)),
        }
    }

    async fn replace(&self, path: &SecretPath, value: &Secret, last: u64) -> Result<u64> {
        let next = object(&self.platform, path, value, Some(last));
        let replaced = within(
            self.api
                .replace(&self.name(path), &PostParams::default(), &next),
        )
        .await;
        match replaced {
            Ok(next) => version(path, &next.metadata),
            Err(error) if is(&error, 409) || is(&error, 404) => Err(conflict(path)),
            Err(error) => Err(failure(format!("cannot write secret {path}"), error)),
        }
    }
}

impl fmt::Debug for KubernetesSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesSecrets").finish_non_exhaustive()
    }
}

#[async_trait]
impl SecretStore for KubernetesSecrets {
    fn capabilities(&self) -> SecretCapabilities {
        SecretCapabilities { versioned: false }
    }

    async fn get(&self, path: &SecretPath, version: Option<u64>) -> Result<Option<SecretVersion>> {
        let Some(mut found) = self.read(path).await? else {
            return Ok(None);
        };
        let newest = self::version(path, &found.metadata)?;
        if version.is_some_and(|version| version != newest) {
            return Err(Error::not_found(format!(
                "secret {path} is at version {newest}: Kubernetes keeps no other"
            )));
        }
        let value = found.data.as_mut().and_then(|data| data.remove(VALUE));
        let value = value.ok_or_else(|| {
            Error::internal(format!(
                "secret {path} has no key `{VALUE}`: somebody else changed it"
            ))
        })?;
        Ok(Some(SecretVersion {
            version: newest,
            value: Secret::new(value.0),
        }))
    }

    async fn put(
        &self,
        path: &SecretPath,
        value: &Secret,
        precondition: SecretPrecondition,
    ) -> Result<u64> {
        if value.expose().len() > VALUE_MAX {
            return Err(Error::invalid(format!(
                "the value of secret {path} has {} bytes; on Kubernetes it may have {VALUE_MAX}",
                value.expose().len()
            )));
        }
        match precondition {
            SecretPrecondition::Absent => return self.create(path, value).await,
            SecretPrecondition::Version(0) => {
                let created = self.create(path, value).await;
                return created.map_err(|error| match error.kind() {
                    ErrorKind::AlreadyExists => conflict(path),
                    _ => error,
                });
            }
            SecretPrecondition::Version(last) => return self.replace(path, value, last).await,
            SecretPrecondition::Any => {}
        }
        for attempt in 1..=ATTEMPTS {
            let put = match self.read(path).await? {
                Some(found) => {
                    self.replace(path, value, version(path, &found.metadata)?)
                        .await
                }
                None => self.create(path, value).await,
            };
            match put {
                Err(error)
                    if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists) =>
                {
                    tokio::time::sleep(PAUSE * attempt).await;
                }
                done => return done,
            }
        }
        Err(Error::unavailable(format!(
            "secret {path} was changed by others {ATTEMPTS} times while it was written"
        )))
    }

    async fn delete(&self, path: &SecretPath) -> Result<()> {
        if self.read(path).await?.is_none() {
            return Ok(());
        }
        match within(self.api.delete(&self.name(path), &DeleteParams::default())).await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, 404) => Ok(()),
            Err(error) => Err(failure(format!("cannot remove secret {path}"), error)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<SecretPath>> {
        let mut request = ListParams::default().labels(&self.ours()).limit(CHUNK);
        let mut paths = Vec::new();
        loop {
            let page = within(self.metadata.list(&request)).await;
            let page = page.map_err(|error| failure("cannot list the secrets", error))?;
            paths.extend(
                page.items
                    .iter()
                    .filter_map(|found| path(&self.platform, &found.metadata)),
            );
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => request = request.continue_token(&token),
                None => break,
            }
        }
        paths.retain(|path| path.as_str().starts_with(prefix));
        paths.sort();
        Ok(paths)
    }

    async fn watch(&self) -> Result<BoxStream<'static, SecretPath>> {
        let watched = watcher(
            self.metadata.clone(),
            watcher::Config::default().labels(&self.ours()),
        );
        let platform = self.platform.clone();
        let told = watched.default_backoff();
        let paths = told.filter_map(move |event| {
            let path = match event {
                Ok(
                    watcher::Event::Apply(found)
                    | watcher::Event::InitApply(found)
                    | watcher::Event::Delete(found),
                ) => path(&platform, &found.metadata),
                Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
                Err(error) => {
                    tracing::warn!(%error, "the watch of secrets broke off");
                    None
                }
            };
            std::future::ready(path)
        });
        Ok(stream::StreamExt::boxed(paths))
    }
}

fn conflict(path: &SecretPath) -> Error {
    Error::conflict(format!("secret {path} was changed by somebody else"))
}

/// The name of a path's object: what a person recognises it by, and what tells it from all others.
fn name(platform: &PlatformId, path: &SecretPath) -> String {
    let readable = path
        .as_str()
        .to_ascii_lowercase()
        .replace(['/', '_', '.'], "-");
    let readable: String = readable.chars().take(READABLE_MAX).collect();
    let hash = hex::encode(Sha256::digest(format!("{platform}/{path}")));
    format!("s-{}-{}", readable.trim_matches('-'), &hash[..HASH])
}

/// The path of an object; `None` if it is none of ours.
fn path(platform: &PlatformId, metadata: &ObjectMeta) -> Option<SecretPath> {
    let annotations = metadata.annotations.as_ref()?;
    let path = SecretPath::new(annotations.get(PATH)?).ok()?;
    (metadata.name.as_deref() == Some(name(platform, &path).as_str())).then_some(path)
}

fn version(path: &SecretPath, metadata: &ObjectMeta) -> Result<u64> {
    let version = metadata.resource_version.as_deref();
    let version = version.and_then(|version| version.parse().ok());
    version.ok_or_else(|| {
        Error::internal(format!(
            "the Kubernetes API sent a resourceVersion of secret {path} that is no number"
        ))
    })
}

/// The object of a secret, to be written if the one there has this version.
fn object(
    platform: &PlatformId,
    path: &SecretPath,
    value: &Secret,
    last: Option<u64>,
) -> v1::Secret {
    let mut labels = BTreeMap::from(platform.marks());
    labels.insert(KIND.to_owned(), KIND_SECRET.to_owned());
    let data = (VALUE.to_owned(), ByteString(value.expose().to_vec()));
    v1::Secret {
        data: Some(BTreeMap::from([data])),
        metadata: ObjectMeta {
            annotations: Some(
                [
                    (PATH.to_owned(), path.to_string()),
                    (FOLLOWS.to_owned(), last.unwrap_or_default().to_string()),
                ]
                .into(),
            ),
            labels: Some(labels),
            name: Some(name(platform, path)),
            resource_version: last.map(|last| last.to_string()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        ..v1::Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::sample;

    #[test]
    fn paths_that_read_alike_have_objects_of_their_own() {
        let names = ["a/b", "a.b", "a_b", "a-b", "A/b", "-", &"x".repeat(255)]
            .map(|path| name(&sample(), &SecretPath::new(path).unwrap()));
        for (index, name) in names.iter().enumerate() {
            assert!(name.len() <= 63 && !names[..index].contains(name), "{name}");
        }
        let path = SecretPath::new("a/b").unwrap();
        assert_ne!(names[0], name(&PlatformId::of_group("other.dev"), &path));
    }
}
