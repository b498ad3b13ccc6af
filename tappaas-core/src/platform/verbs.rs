use std::collections::{BTreeMap, BTreeSet};

use super::{Accepted, Deployment, Platform};
use crate::{
    Digest, Error, ErrorKind, Kind, Metadata, Name, Result,
    controller::{
        FINALIZER,
        application::{self, Plan, origin},
    },
    model::{
        Application, ApplicationContent, ApplicationKey, ApplicationSpec, Autoscale, EnvValue,
        Operation, OperationSpec, OperationVerb, Phase, Release, ReleasePhase,
        check::{self, INSTANCES_MAX},
    },
};

/// The most environment variables that `config set` keeps for an application.
const CONFIG_MAX: usize = 500;

impl Platform {
    /// Creates an application or gives it new content.
    ///
    /// # Errors
    /// `NotFound` if the environment does not exist; `Invalid` if parts of the content do not fit together; `Conflict` while the
    /// application is being destroyed.
    pub async fn deploy(&self, key: &ApplicationKey, deployment: Deployment) -> Result<Accepted> {
        self.require_environment(&key.scope())?;
        deployment.content.check()?;
        deployment.content.check_autoscale(&deployment.autoscale)?;
        for _ in 0..3 {
            let result = match self
                .client()
                .get::<ApplicationSpec>(&key.scope(), key.name.as_str())?
            {
                None => self.create_application(key, &deployment).await,
                Some(_) => self.deploy_again(key, &deployment).await,
            };
            match result {
                // Somebody created or destroyed it in between.
                Err(error)
                    if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
                Ok(mut accepted) => {
                    accepted.notes.extend(self.not_autoscaled(&deployment));
                    return Ok(accepted);
                }
                other => return other,
            }
        }
        Err(Error::conflict(format!(
            "{key} is created and destroyed by others; try again"
        )))
    }

    /// What of a deployment is not autoscaled, though it says so.
    fn not_autoscaled(&self, deployment: &Deployment) -> Vec<String> {
        if self.backends().scheduler.capabilities().autoscaling {
            return Vec::new();
        }
        let each = deployment.autoscale.iter();
        let each = each.map(|(process, Autoscale { min, .. })| {
            format!("process {process} stays at {min} instances, its minimum: this platform does not autoscale")
        });
        each.collect()
    }

    /// Says what the controller would do about a deployment, without doing anything.
    ///
    /// # Errors
    /// As [`Platform::deploy`].
    pub async fn plan(&self, key: &ApplicationKey, deployment: Deployment) -> Result<Plan> {
        self.require_environment(&key.scope())?;
        let existing = self
            .client()
            .get::<ApplicationSpec>(&key.scope(), key.name.as_str())?;
        let application = match existing {
            Some(mut application) => {
                let same = |application: &mut Application| Ok(redeploy(application, &deployment));
                advance(&mut application, OperationVerb::Deploy, same)?;
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
    /// `NotFound` without the application or a release that has the process; `Invalid` for an autoscaled process, and for more than one
    /// instance of one with a volume; `Unsupported` in an environment with limits that the scheduler cannot keep; `Exhausted` for more instances in one
    /// without its share of the limits around it.
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
            if *count > INSTANCES_MAX {
                return Err(Error::invalid(format!(
                    "a process has at most {INSTANCES_MAX} instances"
                )));
            }
        }
        let limits = self.context.limits(key)?;
        if let Some(why) = self.context.unsupported(&key.scope(), &limits)? {
            return Err(Error::unsupported(why));
        }
        let before = self.application(key)?;
        let known = |name| before.spec.scale.get(name).copied().unwrap_or(1);
        let more = counts.iter().any(|(name, count)| *count > known(name));
        if let Some(hold) = self.context.hold(key)?.filter(|_| more) {
            return Err(Error::exhausted(hold.message));
        }
        let before = before.metadata.generation;
        let application = self
            .modify(key, |application| check_counts(application, &counts))
            .await?;
        if application.metadata.generation == before {
            return Ok(unchanged(&application));
        }
        self.accept(key, &application, Request::plain(OperationVerb::Scale))
            .await
    }

    /// Makes a new release with the content and image of an older one; `None`: of the healthy one before the current.
    ///
    /// # Errors
    /// `NotFound` without the application or such a release.
    pub async fn rollback(&self, key: &ApplicationKey, to: Option<u64>) -> Result<Accepted> {
        self.application(key)?;
        let releases = self.context.releases(key);
        let healthy = |r: &&Release| r.status.phase == ReleasePhase::Healthy;
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
            application.spec.forget_misfits();
            application.spec.rollback = Some(release.spec.version);
            Ok(true)
        })
        .await
    }

    /// Makes a new release with the same content, so that every instance is replaced.
    ///
    /// # Errors
    /// `NotFound` without the application or a healthy release; `Conflict` while a newer release is made or after it was refused.
    pub async fn restart(&self, key: &ApplicationKey) -> Result<Accepted> {
        self.change(key, OperationVerb::Restart, |application| {
            check_restart(application, &self.context.releases(key))?;
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
        self.client().delete(&key.object()).await?;
        // Recorded last: an operation without a deletion would wait for ever.
        self.accept(key, &application, Request::plain(OperationVerb::Destroy))
            .await
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
        if let Err(error) = self.require_environment(&key.scope()) {
            return error;
        }
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

    async fn create_application(
        &self,
        key: &ApplicationKey,
        deployment: &Deployment,
    ) -> Result<Accepted> {
        let application = self
            .client()
            .create(&new_application(key, deployment))
            .await?;
        self.accept(key, &application, Request::first(&application))
            .await
    }

    async fn deploy_again(
        &self,
        key: &ApplicationKey,
        deployment: &Deployment,
    ) -> Result<Accepted> {
        let before = self.application(key)?;
        let mut notes = Vec::new();
        for (process, wanted) in &deployment.scale {
            if let Some(set) = before.spec.scale.get(process).filter(|set| *set != wanted) {
                notes.push(format!(
                    "process {process} stays at {set} instances; the manifest says {wanted}"
                ));
            }
        }
        let mut accepted = self
            .change(key, OperationVerb::Deploy, |application| {
                Ok(redeploy(application, deployment))
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
        let mut before = None;
        let application = self
            .modify(key, |application| {
                let spec = application.spec.clone();
                before = advance(application, verb, &mut change)?.then_some(spec);
                Ok(())
            })
            .await?;
        if before.is_none() && self.has_come(key, &application) {
            return Ok(unchanged(&application));
        }
        let request = Request {
            verb,
            origin: Some(origin(&application.spec)),
            before,
        };
        self.accept(key, &application, request).await
    }

    /// Says whether nothing more comes of what an application wants. If not, who asks for the same again, as after a lost reply,
    /// waits for it as the first did.
    fn has_come(&self, key: &ApplicationKey, application: &Application) -> bool {
        let wanted = origin(&application.spec);
        let releases = self.context.releases(key);
        let latest = releases.last().filter(|r| r.spec.origin == wanted);
        latest.is_some_and(|latest| latest.status.phase.ended())
    }

    pub(super) async fn modify(
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
        request: Request,
    ) -> Result<Accepted> {
        let spec = OperationSpec {
            application: key.name.clone(),
            verb: request.verb,
            generation: application.metadata.generation,
            origin: request.origin,
            before: request.before,
            cancelled: false,
        };
        let operation =
            Operation::new(Metadata::new(&key.scope(), self.context.ids.unique()), spec);
        let operation = self.client().create(&operation).await?;
        Ok(Accepted {
            operation: Some(operation.metadata.name),
            generation: application.metadata.generation,
            notes: Vec::new(),
        })
    }
}

/// What an operation is made for.
struct Request {
    verb: OperationVerb,
    /// The origin of the release that it wants, if it wants one.
    origin: Option<Digest>,
    before: Option<ApplicationSpec>,
}

impl Request {
    /// A request that wants no release.
    fn plain(verb: OperationVerb) -> Self {
        Self {
            verb,
            origin: None,
            before: None,
        }
    }

    /// The request that made an application.
    fn first(application: &Application) -> Self {
        Self {
            origin: Some(origin(&application.spec)),
            ..Self::plain(OperationVerb::Deploy)
        }
    }
}

/// Applies `change`, and asks for a release if that says that something changed.
fn advance(
    application: &mut Application,
    verb: OperationVerb,
    mut change: impl FnMut(&mut Application) -> Result<bool>,
) -> Result<bool> {
    let before = application.spec.clone();
    if !change(application)? {
        application.spec = before;
        return Ok(false);
    }
    if !matches!(verb, OperationVerb::Rollback | OperationVerb::Restart) {
        application.spec.rollback = rebuilt(&before, application);
    }
    application.spec.attempt += 1;
    Ok(true)
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
    let mut content = content_of(key.name.as_str(), deployment);
    content.config.clear();
    let spec = ApplicationSpec {
        content,
        scale: deployment.scale.clone(),
        autoscale: deployment.autoscale.clone(),
        attempt: 1,
        rollback: None,
    };
    Application::new(metadata, spec)
}

fn content_of(name: &str, deployment: &Deployment) -> ApplicationContent {
    let mut content = deployment.content.clone();
    content.build.name = name.to_owned();
    content
}

/// A deployment changes neither what `config set` made nor counts that are set. Says whether it changes anything: what failed is
/// tried again.
fn redeploy(application: &mut Application, deployment: &Deployment) -> bool {
    let before = application.spec.clone();
    let config = std::mem::take(&mut application.spec.content.config);
    application.spec.content = content_of(&application.metadata.name, deployment);
    application.spec.content.config = config;
    application.spec.autoscale.clone_from(&deployment.autoscale);
    for (process, count) in &deployment.scale {
        application
            .spec
            .scale
            .entry(process.clone())
            .or_insert(*count);
    }
    application.status.phase == Phase::Failed || application.spec != before
}

/// A restart keeps what the spec says, so that has to be what runs.
fn check_restart(application: &Application, releases: &[Release]) -> Result<()> {
    let name = &application.metadata.name;
    if !releases
        .iter()
        .any(|r| r.status.phase == ReleasePhase::Healthy)
    {
        let message = format!("{name} has no healthy release to restart");
        return Err(Error::not_found(message));
    }
    let wanted = origin(&application.spec);
    let latest = releases.last().filter(|r| r.spec.origin == wanted);
    let seen = application.status.generation == application.metadata.generation;
    let refused = match latest.map(|latest| latest.status.phase) {
        Some(ReleasePhase::Healthy) => return Ok(()),
        Some(phase) => phase.ended(),
        // No release was made of it, and none will be.
        None => seen && application.status.phase == Phase::Failed,
    };
    Err(Error::conflict(if refused {
        format!(
            "what {name} was last given was refused, and a restart would try it again: deploy, set its configuration or roll back"
        )
    } else {
        format!("a newer release of {name} is being made; wait for it or cancel it")
    }))
}

fn check_counts(application: &mut Application, counts: &BTreeMap<Name, u32>) -> Result<()> {
    for (process, count) in counts {
        if let Some(Autoscale { min, max, .. }) = application.spec.autoscale.get(process) {
            return Err(Error::invalid(format!(
                "process {process} is autoscaled between {min} and {max} instances: change its `autoscale`, or take that out, and deploy"
            )));
        }
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
    check::variable(name).map_err(Error::invalid)
}
