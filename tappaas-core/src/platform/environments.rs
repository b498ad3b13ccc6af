use super::Platform;
use crate::{
    Error, ErrorKind, Key, Kind, Metadata, Name, Precondition, Result, Scope,
    backend::VolumeId,
    model::{ApplicationSpec, Environment, EnvironmentSpec, VolumeObject, VolumeObjectSpec},
};

impl Platform {
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

    /// Refuses an environment that does not exist.
    ///
    /// # Errors
    /// `NotFound`, with the command that creates it.
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
        found.map(drop).ok_or_else(|| missing(name))
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
        let ours = |v: &&VolumeObject| {
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
}
