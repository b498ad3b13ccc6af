use serde::{Deserialize, Serialize};
use tappaas_core::{Digest, Name, Scope, backend::VolumeId, model::ApplicationKey};
use utoipa::IntoParams;

/// The path to a project.
#[derive(Clone, Debug, Deserialize, IntoParams, Serialize)]
#[into_params(parameter_in = Path)]
pub struct ProjectPath {
    /// Who owns it.
    #[param(value_type = String)]
    pub tenant: Name,
    /// Its name.
    #[param(value_type = String)]
    pub project: Name,
}

/// The path to an environment.
#[derive(Clone, Debug, Deserialize, IntoParams, Serialize)]
#[into_params(parameter_in = Path)]
pub struct EnvironmentPath {
    /// Who owns it.
    #[param(value_type = String)]
    pub tenant: Name,
    /// In which project.
    #[param(value_type = String)]
    pub project: Name,
    /// Its name.
    #[param(value_type = String)]
    pub environment: Name,
}

/// The path to an application.
#[derive(Clone, Debug, Deserialize, IntoParams, Serialize)]
#[into_params(parameter_in = Path)]
pub struct ApplicationPath {
    /// Who owns it.
    #[param(value_type = String)]
    pub tenant: Name,
    /// In which project.
    #[param(value_type = String)]
    pub project: Name,
    /// In which environment.
    #[param(value_type = String)]
    pub environment: Name,
    /// Its name.
    #[param(value_type = String)]
    pub application: Name,
}

/// Which two releases.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct ReleasesPath {
    /// The older one's version.
    pub release: u64,
    /// The newer one's version.
    pub other: u64,
}

/// Which build.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct BuildPath {
    /// Its number.
    pub build: u64,
}

/// Which source.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct SourcePath {
    /// The archive's digest, `sha256:` and 64 hexadecimal digits.
    #[param(value_type = String)]
    pub digest: Digest,
}

/// Which operation.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OperationPath {
    /// Its id.
    pub operation: String,
}

/// Which volume, whether or not its application still exists.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct VolumePath {
    /// The application that has or had it.
    #[param(value_type = String)]
    pub application: Name,
    /// Its name.
    #[param(value_type = String)]
    pub volume: Name,
}

impl EnvironmentPath {
    /// The scope that the path names.
    pub fn scope(&self) -> Scope {
        Scope::environment(
            self.tenant.clone(),
            self.project.clone(),
            self.environment.clone(),
        )
    }

    /// The application of this name in the environment.
    pub fn application(&self, name: Name) -> ApplicationKey {
        ApplicationKey {
            tenant: self.tenant.clone(),
            project: self.project.clone(),
            environment: self.environment.clone(),
            name,
        }
    }
}

impl ApplicationPath {
    /// The application that the path names.
    pub fn key(&self) -> ApplicationKey {
        ApplicationKey {
            tenant: self.tenant.clone(),
            project: self.project.clone(),
            environment: self.environment.clone(),
            name: self.application.clone(),
        }
    }
}

impl VolumePath {
    /// The volume that the path names, in an environment.
    pub fn id(&self, environment: &EnvironmentPath) -> VolumeId {
        VolumeId {
            application: environment.application(self.application.clone()),
            name: self.volume.clone(),
        }
    }
}
