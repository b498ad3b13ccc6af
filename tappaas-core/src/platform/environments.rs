use super::Platform;
use crate::{
    Error, ErrorKind, Key, Kind, Metadata, Name, Precondition, Result, Scope,
    backend::VolumeId,
    model::{
        Application, Environment, EnvironmentSpec, Limits, Release, ReleasePhase, VolumeObject,
        VolumeObjectSpec,
    },
};

impl Platform {
    /// Creates an environment; one that exists stays as it is.
    ///
    /// # Errors
    /// `Conflict` while one of this name is being removed; what the store says.
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
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let found = self
                    .client()
                    .get::<EnvironmentSpec>(&scope, name.as_str())?;
                found.map_or(Ok(()), |found| refuse_leaving(&found))
            }
            created => created.map(drop),
        }
    }

    /// Sets what all applications of an environment may take together.
    ///
    /// # Errors
    /// `Invalid` for a limit that nobody could keep; `Unsupported` if the scheduler keeps none; `NotFound` without the environment;
    /// `Conflict` while it is being removed.
    pub async fn limit_environment(&self, environment: &Scope, limits: Limits) -> Result<()> {
        self.require_environment(environment)?;
        limits.check()?;
        if !self.backends().scheduler.capabilities().quotas {
            limits.refuse()?;
        }
        let (Some(project), Some(name)) = (environment.parent(), environment.names().last()) else {
            return Err(Error::invalid("the whole cluster is no environment"));
        };
        let change = |found: &mut Environment| {
            found.spec.limits = limits;
            Ok(())
        };
        let changed = self.client().modify(&project, name.as_str(), change).await;
        changed.map(drop)
    }

    /// Refuses an environment that does not exist.
    ///
    /// # Errors
    /// `NotFound`, with the command that creates it; `Conflict` while it is being removed.
    pub fn require_environment(&self, environment: &Scope) -> Result<()> {
        let missing = |name| {
            Error::not_found(format!(
                "there is no environment `{name}`; create it with `tappaas env create {name}`"
            ))
        };
        let (Some(project), Some(name)) = (environment.parent(), environment.names().last()) else {
            return Err(Error::invalid("the whole cluster is no environment"));
        };
        let found = self
            .client()
            .get::<EnvironmentSpec>(&project, name.as_str())?;
        refuse_leaving(&found.ok_or_else(|| missing(name))?)
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
            .delete(&key, Precondition::Present)
            .await?;
        match deleted {
            // Whoever lists next does not see it any more, unless something of it has to go first.
            Some(left) => {
                let gone = left.metadata.finalizers.is_empty();
                self.client().reach(&left, gone).await
            }
            None => Err(Error::not_found(format!("there is no environment {name}"))),
        }
    }

    /// Deletes a volume and its content.
    ///
    /// # Errors
    /// `Conflict` while its application uses it, or runs or may run a release that does; `NotFound` if there is no such volume.
    pub async fn remove_volume(&self, id: &VolumeId) -> Result<()> {
        let scope = id.application.scope();
        let objects = self.client().list::<VolumeObjectSpec>(&scope);
        let ours = |v: &&VolumeObject| {
            v.spec.application == id.application.name && v.spec.volume == id.name
        };
        let object = objects.iter().find(ours);
        let object = object.ok_or_else(|| {
            Error::not_found(format!("{} has no volume {}", id.application.name, id.name))
        })?;
        if self.uses(id).await? {
            let (application, volume) = (&id.application.name, &id.name);
            return Err(Error::conflict(format!(
                "{application} uses volume {volume}; destroy it or take the volume out of it first"
            )));
        }
        self.backends().volumes.remove(id).await?;
        self.client().delete(&object.key()).await
    }

    /// Says whether an application wants a volume or runs or may run with it. Asks the store itself, since content is at stake.
    async fn uses(&self, id: &VolumeId) -> Result<bool> {
        let Some(stored) = self.context.store.get(&id.application.object()).await? else {
            return Ok(false);
        };
        let application = Application::from_object(&stored)?;
        let releases = self.context.stored_releases(&id.application).await?;
        let healthy = |r: &&Release| r.status.phase == ReleasePhase::Healthy;
        let current = releases.iter().rev().find(healthy);
        let open = releases.iter().filter(|r| !r.status.phase.ended());
        let mut contents = open.chain(current).map(|release| &release.spec.content);
        let wanted = &application.spec.content;
        Ok(wanted.volumes.contains_key(&id.name)
            || contents.any(|content| content.volumes.contains_key(&id.name)))
    }
}

fn refuse_leaving(environment: &Environment) -> Result<()> {
    match environment.metadata.deletion {
        None => Ok(()),
        Some(_) => Err(Error::conflict(format!(
            "environment {} is being removed; try again once it is gone",
            environment.metadata.name
        ))),
    }
}
