use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::stream::BoxStream;

use super::{Accepted, Deployment, Platform};
use crate::{
    Digest, Error, ErrorKind, Key, Kind, Metadata, Name, Result, Scope,
    backend::{Content, Image, Reference, Repository, VolumeId},
    controller::{
        FINALIZER,
        application::{self, Plan, origin},
    },
    model::{
        Application, ApplicationKey, ApplicationSpec, EnvValue, Environment, EnvironmentSpec,
        Operation, OperationSpec, OperationVerb, Phase, Source, VolumeObjectSpec,
    },
};

/// The most environment variables that `config set` keeps for an application.
const CONFIG_MAX: usize = 500;
/// The most instances of a process.
const SCALE_MAX: u32 = 1000;

impl Platform {
    /// Keeps an uploaded source archive as a blob, and returns the source that names it.
    ///
    /// # Errors
    /// `Invalid` if the bytes do not hash to `digest`.
    pub async fn upload(
        &self,
        key: &ApplicationKey,
        digest: &Digest,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<Source> {
        let repository = self.settings().repository(key);
        let content = Content::Blob(digest.clone());
        self.backends()
            .registry
            .push(&repository, &content, bytes)
            .await?;
        Ok(Source::Upload {
            repository,
            digest: digest.clone(),
        })
    }

    /// Finds out which image a reference such as `registry.example/app:1.2` or `app@sha256:…` means now.
    ///
    /// # Errors
    /// `NotFound` if the registry has none.
    pub async fn resolve_image(&self, reference: &str) -> Result<Source> {
        let (repository, wanted) = parse_reference(reference)?;
        let digest = self
            .backends()
            .registry
            .resolve(&repository, &wanted)
            .await?;
        let digest = digest
            .ok_or_else(|| Error::not_found(format!("no image `{reference}` in the registry")))?;
        Ok(Source::Image {
            reference: reference.to_owned(),
            image: Image { repository, digest },
        })
    }

    /// Creates an application or gives it new content.
    ///
    /// # Errors
    /// `NotFound` if the environment does not exist; `Conflict` while the application is being destroyed.
    pub async fn deploy(&self, key: &ApplicationKey, deployment: Deployment) -> Result<Accepted> {
        self.require_environment(key)?;
        for _ in 0..3 {
            let result = match self
                .client()
                .get::<ApplicationSpec>(&key.scope(), key.name.as_str())?
            {
                None => self.create_application(key, &deployment).await,
                Some(_) => self.redeploy(key, &deployment).await,
            };
            match result {
                // Somebody created or destroyed it in between.
                Err(error)
                    if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
                other => return other,
            }
        }
        Err(Error::conflict(format!(
            "{key} is created and destroyed by others; try again"
        )))
    }

    /// Says what the controller would do about a deployment, without doing anything.
    ///
    /// # Errors
    /// As [`Platform::deploy`].
    pub async fn plan(&self, key: &ApplicationKey, deployment: Deployment) -> Result<Plan> {
        self.require_environment(key)?;
        let existing = self
            .client()
            .get::<ApplicationSpec>(&key.scope(), key.name.as_str())?;
        let application = match existing {
            Some(mut application) => {
                change_content(&mut application, &deployment);
                application
            }
            None => new_application(key, &deployment),
        };
        let snapshot = self.context.snapshot_of(key, application).await?;
        Ok(application::plan(&snapshot))
    }

    /// Sets and unsets environment variables, which win over the manifest's.
    ///
    /// # Errors
    /// `NotFound` without the application; `Invalid` for a bad name.
    pub async fn configure(
        &self,
        key: &ApplicationKey,
        set: BTreeMap<String, EnvValue>,
        unset: Vec<String>,
    ) -> Result<Accepted> {
        for name in set.keys().chain(&unset) {
            check_variable(name)?;
        }
        self.change(key, OperationVerb::Configure, |application| {
            let content = &mut application.spec.content;
            let mut config = content.config.clone();
            config.extend(set.clone());
            unset.iter().for_each(|name| drop(config.remove(name)));
            if config.len() > CONFIG_MAX {
                return Err(Error::exhausted(format!(
                    "an application has at most {CONFIG_MAX} variables set"
                )));
            }
            if config == content.config {
                return Ok(false);
            }
            content.config = config;
            Ok(true)
        })
        .await
    }

    /// Changes how many instances run.
    ///
    /// # Errors
    /// `NotFound` without the application or a release that has the process; `Invalid` for more than one instance of a process with a volume.
    pub async fn scale(
        &self,
        key: &ApplicationKey,
        counts: BTreeMap<Name, u32>,
    ) -> Result<Accepted> {
        let releases = self.context.releases(key);
        let known: BTreeSet<Name> = releases
            .iter()
            .flat_map(|r| application::processes(r).into_keys())
            .collect();
        for (process, count) in &counts {
            if !known.is_empty() && !known.contains(process) {
                let known: Vec<&str> = known.iter().map(Name::as_str).collect();
                let known = known.join(", ");
                return Err(Error::not_found(format!(
                    "{} has no process {process}; it has {known}",
                    key.name
                )));
            }
            if *count > SCALE_MAX {
                return Err(Error::invalid(format!(
                    "a process has at most {SCALE_MAX} instances"
                )));
            }
        }
        let before = self.application(key)?.metadata.generation;
        let application = self
            .modify(key, |application| check_counts(application, &counts))
            .await?;
        if application.metadata.generation == before {
            return Ok(unchanged(&application));
        }
        self.accept(key, &application, OperationVerb::Scale, None, Vec::new())
            .await
    }

    /// Makes a new release with the content and image of an older one; `None`: of the healthy one before the current.
    ///
    /// # Errors
    /// `NotFound` if there is no such release.
    pub async fn rollback(&self, key: &ApplicationKey, to: Option<u64>) -> Result<Accepted> {
        let releases = self.context.releases(key);
        let healthy =
            |r: &&crate::model::Release| r.status.phase == crate::model::ReleasePhase::Healthy;
        let release = match to {
            Some(version) => releases
                .iter()
                .find(|release| release.spec.version == version),
            None => releases.iter().rev().filter(healthy).nth(1),
        };
        let missing = || match to {
            Some(version) => Error::not_found(format!("{} has no release {version}", key.name)),
            None => Error::not_found(format!(
                "{} has no earlier healthy release to roll back to",
                key.name
            )),
        };
        let release = release.ok_or_else(missing)?;
        self.change(key, OperationVerb::Rollback, |application| {
            application.spec.content = release.spec.content.clone();
            application.spec.rollback = Some(release.spec.version);
            Ok(true)
        })
        .await
    }

    /// Makes a new release with the same content, so that every instance is replaced.
    ///
    /// # Errors
    /// `NotFound` without the application or a healthy release.
    pub async fn restart(&self, key: &ApplicationKey) -> Result<Accepted> {
        let releases = self.context.releases(key);
        let current = releases
            .iter()
            .rev()
            .find(|r| r.status.phase == crate::model::ReleasePhase::Healthy);
        let current = current.ok_or_else(|| {
            Error::not_found(format!("{} has no healthy release to restart", key.name))
        })?;
        self.change(key, OperationVerb::Restart, |application| {
            application.spec.content = current.spec.content.clone();
            application.spec.rollback = Some(current.spec.version);
            Ok(true)
        })
        .await
    }

    /// Ends an application. Its volumes stay.
    ///
    /// # Errors
    /// `NotFound` without the application.
    pub async fn destroy(&self, key: &ApplicationKey) -> Result<Accepted> {
        let application = self.application(key)?;
        let accepted = self
            .accept(key, &application, OperationVerb::Destroy, None, Vec::new())
            .await?;
        self.client().delete(&key.object()).await?;
        Ok(accepted)
    }

    /// Ends an operation: the application goes back to what it ran before.
    ///
    /// # Errors
    /// `NotFound` without the operation; `Conflict` if it has ended or cannot be cancelled.
    pub async fn cancel(&self, scope: &Scope, operation: &str) -> Result<()> {
        let found = self.client().get::<OperationSpec>(scope, operation)?;
        let found =
            found.ok_or_else(|| Error::not_found(format!("there is no operation {operation}")))?;
        if found.status.state.ended() {
            return Err(Error::conflict(format!(
                "operation {operation} has ended: {}",
                found.status.message
            )));
        }
        let key = ApplicationKey::new(scope, found.spec.application.as_str())?;
        let Some(wanted) = &found.spec.origin else {
            return Err(Error::conflict(
                "only what makes a release can be cancelled",
            ));
        };
        let releases = self.context.releases(&key);
        let current = releases
            .iter()
            .rev()
            .find(|r| r.status.phase == crate::model::ReleasePhase::Healthy);
        self.cancelled(scope, operation).await?;
        let Some(current) = current else {
            // Nothing ran before, so there is nothing to go back to but nothing.
            return self.client().delete(&key.object()).await;
        };
        self.modify(&key, |application| {
            if origin(&application.spec) == *wanted {
                application.spec.content = current.spec.content.clone();
                application.spec.rollback = Some(current.spec.version);
                application.spec.attempt += 1;
            }
            Ok(())
        })
        .await
        .map(drop)
    }

    /// Creates an environment; one that exists stays as it is.
    ///
    /// # Errors
    /// What the store says.
    pub async fn create_environment(
        &self,
        tenant: &Name,
        project: &Name,
        name: &Name,
    ) -> Result<()> {
        let scope = Scope::project(tenant.clone(), project.clone());
        let environment = Environment::new(
            Metadata::new(&scope, name.as_str()),
            EnvironmentSpec::default(),
        );
        match self.client().create(&environment).await {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes an environment that has no applications and no volumes.
    ///
    /// # Errors
    /// `Conflict` if something is in it; `NotFound` if it does not exist.
    pub async fn remove_environment(
        &self,
        tenant: &Name,
        project: &Name,
        name: &Name,
    ) -> Result<()> {
        let inside = Scope::environment(tenant.clone(), project.clone(), name.clone());
        for kind in [Kind::Application, Kind::Volume] {
            if let Some(key) = self.client().keys(kind, &inside).first() {
                let what = kind.as_str().to_ascii_lowercase();
                return Err(Error::conflict(format!(
                    "environment {name} still has {what} {}",
                    key.name
                )));
            }
        }
        let scope = Scope::project(tenant.clone(), project.clone());
        let key = Key::new(Kind::Environment, scope, name.as_str());
        let deleted = self
            .context
            .store
            .delete(&key, crate::Precondition::Present)
            .await?;
        deleted
            .map(drop)
            .ok_or_else(|| Error::not_found(format!("there is no environment {name}")))
    }

    /// Deletes a volume and its content.
    ///
    /// # Errors
    /// `Conflict` while its application exists and uses it; `NotFound` if there is no such volume.
    pub async fn remove_volume(&self, id: &VolumeId) -> Result<()> {
        let scope = id.application.scope();
        let objects = self.client().list::<VolumeObjectSpec>(&scope);
        let ours = |v: &&crate::model::VolumeObject| {
            v.spec.application == id.application.name && v.spec.volume == id.name
        };
        let object = objects.iter().find(ours);
        let object = object.ok_or_else(|| {
            Error::not_found(format!("{} has no volume {}", id.application.name, id.name))
        })?;
        let application = self
            .client()
            .get::<ApplicationSpec>(&scope, id.application.name.as_str())?;
        if application
            .is_some_and(|application| application.spec.content.volumes.contains_key(&id.name))
        {
            let (application, volume) = (&id.application.name, &id.name);
            return Err(Error::conflict(format!(
                "{application} uses volume {volume}; destroy it or take the volume out of it first"
            )));
        }
        self.backends().volumes.remove(id).await?;
        self.client().delete(&object.key()).await
    }

    /// The application's object.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn application(&self, key: &ApplicationKey) -> Result<Application> {
        let found = self
            .client()
            .get::<ApplicationSpec>(&key.scope(), key.name.as_str())?;
        found.ok_or_else(|| self.unknown(key))
    }

    fn unknown(&self, key: &ApplicationKey) -> Error {
        let others = self.client().keys(Kind::Application, &key.scope());
        let mut message = format!(
            "there is no application `{}` in environment {}",
            key.name, key.environment
        );
        if others.is_empty() {
            message.push_str("; there is none at all");
        } else {
            let shown: Vec<&str> = others
                .iter()
                .take(10)
                .map(|key| key.name.as_str())
                .collect();
            message.push_str(&format!("; there is {}", shown.join(", ")));
        }
        Error::not_found(message)
    }

    fn require_environment(&self, key: &ApplicationKey) -> Result<()> {
        let scope = Scope::project(key.tenant.clone(), key.project.clone());
        if self
            .client()
            .get::<EnvironmentSpec>(&scope, key.environment.as_str())?
            .is_some()
        {
            return Ok(());
        }
        let name = &key.environment;
        Err(Error::not_found(format!(
            "there is no environment `{name}`; create it with `tappaas env create {name}`"
        )))
    }

    async fn create_application(
        &self,
        key: &ApplicationKey,
        deployment: &Deployment,
    ) -> Result<Accepted> {
        let application = self
            .client()
            .create(&new_application(key, deployment))
            .await?;
        let origin = Some(origin(&application.spec));
        self.accept(key, &application, OperationVerb::Deploy, origin, Vec::new())
            .await
    }

    async fn redeploy(&self, key: &ApplicationKey, deployment: &Deployment) -> Result<Accepted> {
        let before = self.application(key)?;
        let mut notes = Vec::new();
        for (process, wanted) in &deployment.scale {
            if let Some(set) = before.spec.scale.get(process).filter(|set| *set != wanted) {
                notes.push(format!(
                    "process {process} stays at {set} instances; the manifest says {wanted}"
                ));
            }
        }
        let failed = before.status.phase == Phase::Failed;
        let mut accepted = self
            .change(key, OperationVerb::Deploy, |application| {
                let before = application.spec.clone();
                change_content(application, deployment);
                let same = application.spec.content == before.content;
                application.spec.attempt = before.attempt;
                Ok(failed || !same || application.spec.scale != before.scale)
            })
            .await?;
        accepted.notes = notes;
        Ok(accepted)
    }

    /// Changes content, and asks for a release if `change` says that something changed.
    async fn change(
        &self,
        key: &ApplicationKey,
        verb: OperationVerb,
        mut change: impl FnMut(&mut Application) -> Result<bool> + Send,
    ) -> Result<Accepted> {
        let mut changed = false;
        let application = self
            .modify(key, |application| {
                let before = application.spec.clone();
                changed = change(application)?;
                if !changed {
                    application.spec = before;
                    return Ok(());
                }
                if !matches!(verb, OperationVerb::Rollback | OperationVerb::Restart) {
                    application.spec.rollback = rebuilt(&before, application);
                }
                application.spec.attempt += 1;
                Ok(())
            })
            .await?;
        if !changed {
            return Ok(unchanged(&application));
        }
        let origin = Some(origin(&application.spec));
        self.accept(key, &application, verb, origin, Vec::new())
            .await
    }

    async fn modify(
        &self,
        key: &ApplicationKey,
        mut change: impl FnMut(&mut Application) -> Result<()> + Send,
    ) -> Result<Application> {
        self.application(key)?;
        self.client()
            .modify(
                &key.scope(),
                key.name.as_str(),
                |application: &mut Application| {
                    if application.metadata.deletion.is_some() {
                        return Err(Error::conflict(format!("{} is being destroyed", key.name)));
                    }
                    change(application)
                },
            )
            .await
    }

    async fn accept(
        &self,
        key: &ApplicationKey,
        application: &Application,
        verb: OperationVerb,
        origin: Option<Digest>,
        notes: Vec<String>,
    ) -> Result<Accepted> {
        let spec = OperationSpec {
            application: key.name.clone(),
            verb,
            generation: application.metadata.generation,
            origin,
            cancelled: false,
        };
        let operation =
            Operation::new(Metadata::new(&key.scope(), self.context.ids.unique()), spec);
        let operation = self.client().create(&operation).await?;
        Ok(Accepted {
            operation: Some(operation.metadata.name),
            generation: application.metadata.generation,
            notes,
        })
    }

    async fn cancelled(&self, scope: &Scope, operation: &str) -> Result<()> {
        let marked = self
            .client()
            .modify(scope, operation, |operation: &mut Operation| {
                operation.spec.cancelled = true;
                Ok(())
            })
            .await?;
        let mut marked = marked;
        marked.status.state = crate::model::OperationState::Cancelled;
        marked.status.message = "cancelled".to_owned();
        marked.status.ended = Some(self.context.clock.now());
        self.client().update_status(&marked).await.map(drop)
    }
}

/// With the source and build of a release that was rolled back to, its image is used again, whatever else changed.
fn rebuilt(before: &ApplicationSpec, now: &Application) -> Option<u64> {
    let content = &now.spec.content;
    let same = before.content.source == content.source && before.content.build == content.build;
    before.rollback.filter(|_| same)
}

fn unchanged(application: &Application) -> Accepted {
    Accepted {
        operation: None,
        generation: application.metadata.generation,
        notes: Vec::new(),
    }
}

fn new_application(key: &ApplicationKey, deployment: &Deployment) -> Application {
    let mut metadata = Metadata::new(&key.scope(), key.name.as_str());
    metadata.finalizers.push(FINALIZER.to_owned());
    let mut content = deployment.content.clone();
    content.config.clear();
    let spec = ApplicationSpec {
        content,
        scale: deployment.scale.clone(),
        attempt: 1,
        rollback: None,
    };
    Application::new(metadata, spec)
}

/// A deployment changes neither what `config set` made nor counts that are set.
fn change_content(application: &mut Application, deployment: &Deployment) {
    let config = std::mem::take(&mut application.spec.content.config);
    application.spec.content = deployment.content.clone();
    application.spec.content.config = config;
    application.spec.rollback = None;
    application.spec.attempt += 1;
    for (process, count) in &deployment.scale {
        application
            .spec
            .scale
            .entry(process.clone())
            .or_insert(*count);
    }
}

fn check_counts(application: &mut Application, counts: &BTreeMap<Name, u32>) -> Result<()> {
    for (process, count) in counts {
        let volumes = &application.spec.content.volumes;
        if *count > 1 && volumes.values().any(|volume| volume.process == *process) {
            return Err(Error::invalid(format!(
                "process {process} has a volume, which one instance holds at a time"
            )));
        }
        application.spec.scale.insert(process.clone(), *count);
    }
    Ok(())
}

/// IEEE Std 1003.1, §8.1: letters, digits and underscores, not beginning with a digit.
fn check_variable(name: &str) -> Result<()> {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let good = (1..=256).contains(&name.len())
        && name.bytes().all(word)
        && !name.as_bytes()[0].is_ascii_digit();
    if !good {
        let shown = name.escape_default();
        return Err(Error::invalid(format!(
            "`{shown}` cannot name a variable: letters, digits and `_` only, no digit first"
        )));
    }
    if name == "PORT" {
        return Err(Error::invalid(
            "`PORT` is set by the platform; give the process a `port` in tappaas.toml",
        ));
    }
    Ok(())
}

fn parse_reference(reference: &str) -> Result<(Repository, Reference)> {
    if let Some((repository, digest)) = reference.split_once('@') {
        return Ok((repository.parse()?, Reference::Digest(digest.parse()?)));
    }
    // A `:` after the last `/` begins the tag; one before it belongs to the registry's port.
    let tag = reference
        .rfind(':')
        .filter(|colon| !reference[*colon..].contains('/'));
    match tag {
        Some(colon) => Ok((
            reference[..colon].parse()?,
            Reference::Tag(reference[colon + 1..].parse()?),
        )),
        None => Ok((reference.parse()?, Reference::Tag("latest".parse()?))),
    }
}
