use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, PostParams, Preconditions},
};
use tappaas_core::{Error, ErrorKind, Key, Kind, Result, Scope};
use tokio::time::Instant;

use super::place::{self, new_namespace};
use crate::{
    PlatformId,
    failure::{failure, is, within},
    labels::PLATFORM,
};

/// Of more namespaces the environments are looked up again.
const KNOWN_MAX: usize = 100_000;

/// How long a namespace is taken for somebody else's, though it may have become ours.
const FOREIGN_FOR: Duration = Duration::from_secs(5);

/// Which environment of a platform each namespace is of.
#[derive(Debug)]
pub(crate) struct Namespaces {
    platform: PlatformId,
    api: Api<Namespace>,
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    /// `None` if it is somebody else's.
    scope: Option<Scope>,
    /// The platform that it is labelled with.
    platform: Option<String>,
    at: Instant,
}

impl Known {
    /// Whose a namespace of ours is never changes: the name follows from the labels.
    fn holds(&self) -> bool {
        self.scope.is_some() || self.at.elapsed() < FOREIGN_FOR
    }
}

impl Namespaces {
    pub(crate) fn new(client: Client, platform: PlatformId) -> Self {
        Self {
            platform,
            api: Api::all(client),
            known: Mutex::default(),
        }
    }

    /// The key of an object; `None` if it is in a namespace of somebody else, or has a name that is not ours.
    ///
    /// An object of ours says by its labels where it is. One that a person made need not: then the namespace is asked.
    pub(super) async fn key(&self, kind: Kind, object: &DynamicObject) -> Result<Option<Key>> {
        let metadata = &object.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        let Some(namespace) = &metadata.namespace else {
            return Ok(place::key(kind, name));
        };
        let labels = metadata.labels.as_ref();
        let scope = match labels.and_then(|labels| self.labelled(namespace, labels)) {
            Some(scope) => Some(scope),
            None => self.environment(namespace).await?,
        };
        let key = scope.map(|scope| Key::new(kind, scope, name));
        Ok(key.filter(|key| key.check().is_ok()))
    }

    /// The name of an environment's namespace.
    pub(crate) fn name(&self, environment: &Scope) -> String {
        place::namespace(&self.platform, environment)
    }

    /// Sees to it that an environment has its namespace.
    ///
    /// # Errors
    /// `AlreadyExists` if somebody else has one of that name.
    pub(crate) async fn provide(&self, environment: &Scope) -> Result<()> {
        let name = self.name(environment);
        if self.environment(&name).await?.is_some() {
            return Ok(());
        }
        let namespace = new_namespace(&self.platform, environment);
        match within(self.api.create(&PostParams::default(), &namespace)).await {
            Ok(_) => {
                self.lock().remove(&name);
                return Ok(());
            }
            // Somebody else was quicker, who need not be one of us.
            Err(error) if is(&error, 409) => {}
            Err(error) => return Err(failure(format!("cannot create namespace {name}"), error)),
        }
        let found = self.look_up(&name).await?;
        match found.scope {
            Some(_) => Ok(()),
            None => Err(Error::new(
                ErrorKind::AlreadyExists,
                self.refusal(&name, environment, found.platform.as_deref()),
            )),
        }
    }

    /// Why a namespace of the right name is not taken, by the platform that it is labelled with.
    fn refusal(&self, name: &str, environment: &Scope, of: Option<&str>) -> String {
        let own = self.platform.as_str();
        match of.filter(|of| *of != own) {
            Some(of) => format!(
                "namespace {name} of environment {environment} is labelled {PLATFORM}={of}, and this platform is {own}: delete it, or label it as that"
            ),
            None => format!(
                "namespace {name} of environment {environment} is not labelled as ours ({PLATFORM}={own}, and its tenant, project and environment): delete it, or label it"
            ),
        }
    }

    /// As [`Namespaces::provide`], by what the cluster has now.
    ///
    /// # Errors
    /// `Unavailable` while a namespace of that name is being removed.
    pub(crate) async fn prepare(&self, environment: &Scope) -> Result<()> {
        let name = self.name(environment);
        self.forget(environment);
        let found = within(self.api.get_metadata_opt(&name)).await;
        let found =
            found.map_err(|error| failure(format!("cannot read namespace {name}"), error))?;
        if found.is_some_and(|found| found.metadata.deletion_timestamp.is_some()) {
            return Err(Error::unavailable(format!(
                "namespace {name} is being removed"
            )));
        }
        self.provide(environment).await
    }

    /// Removes an environment's namespace, and with it all that is in it. `Ok` once it is gone; one of somebody else stays.
    ///
    /// # Errors
    /// `Unavailable` until then, with what Kubernetes says is in the way.
    pub(crate) async fn remove(&self, environment: &Scope) -> Result<()> {
        let name = self.name(environment);
        let found = within(self.api.get_opt(&name)).await;
        let found =
            found.map_err(|error| failure(format!("cannot read namespace {name}"), error))?;
        let ours = |found: &Namespace| {
            let labels = found.metadata.labels.as_ref();
            labels
                .and_then(|labels| self.labelled(&name, labels))
                .is_some()
        };
        let Some(found) = found.filter(ours) else {
            return Ok(());
        };
        if found.metadata.deletion_timestamp.is_none() {
            let only = Preconditions {
                uid: found.metadata.uid.clone(),
                resource_version: None,
            };
            let parameters = DeleteParams::default().preconditions(only);
            match within(self.api.delete(&name, &parameters)).await {
                Err(error) if !is(&error, 404) => {
                    return Err(failure(format!("cannot remove namespace {name}"), error));
                }
                _ => {}
            }
        }
        self.forget(environment);
        Err(Error::unavailable(format!(
            "namespace {name} is being removed{}",
            hindrances(&found)
        )))
    }

    /// Forgets a namespace that has gone.
    pub(crate) fn forget(&self, environment: &Scope) {
        self.lock().remove(&self.name(environment));
    }

    /// The environment of a namespace; `None` if there is no such namespace, or it is somebody else's.
    async fn environment(&self, namespace: &str) -> Result<Option<Scope>> {
        let known = self.lock().get(namespace).cloned();
        match known {
            Some(known) if known.holds() => Ok(known.scope),
            _ => Ok(self.look_up(namespace).await?.scope),
        }
    }

    fn labelled(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Option<Scope> {
        place::environment(&self.platform, namespace, labels)
    }

    async fn look_up(&self, namespace: &str) -> Result<Known> {
        let found = within(self.api.get_metadata_opt(namespace)).await;
        let found =
            found.map_err(|error| failure(format!("cannot read namespace {namespace}"), error))?;
        let labels = found.and_then(|found| found.metadata.labels);
        let labels = labels.unwrap_or_default();
        let looked_up = Known {
            scope: self.labelled(namespace, &labels),
            platform: labels.get(PLATFORM).cloned(),
            at: Instant::now(),
        };
        let mut known = self.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(namespace.to_owned(), looked_up.clone());
        Ok(looked_up)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What Kubernetes says keeps a namespace from going.
fn hindrances(namespace: &Namespace) -> String {
    let status = namespace.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let mut said = String::new();
    for condition in conditions.into_iter().flatten() {
        if condition.status == "True"
            && let Some(message) = &condition.message
        {
            said.push_str(": ");
            said.push_str(message);
        }
    }
    said
}
