use axum::extract::State as FromState;
use http::StatusCode;
use tappaas_core::{
    Kind, Name, Scope,
    model::{self, EnvironmentSpec},
    platform::Platform,
};

use crate::{
    State,
    extract::Path,
    failure::Answer,
    types::{Environment, EnvironmentPath, List, ProjectPath},
};

/// Lists the environments of a project.
#[utoipa::path(
    get,
    path = "/",
    tag = "environments",
    params(ProjectPath),
    responses((status = 200, description = "The environments.", body = List<Environment>))
)]
pub(super) async fn list_environments(
    FromState(state): FromState<State>,
    Path(path): Path<ProjectPath>,
) -> Answer<axum::Json<List<Environment>>> {
    let scope = Scope::project(path.tenant, path.project);
    let environments = state.platform.client().list::<EnvironmentSpec>(&scope);
    let environments = environments.iter();
    let environments = environments.filter_map(|environment| shown(&state.platform, environment));
    Ok(axum::Json(environments.collect()))
}

/// Creates an environment; one that exists stays as it is.
#[utoipa::path(
    put,
    path = "/{environment}",
    tag = "environments",
    params(EnvironmentPath),
    responses((status = 204, description = "The environment exists."))
)]
pub(super) async fn create_environment(
    FromState(state): FromState<State>,
    Path(path): Path<EnvironmentPath>,
) -> Answer<StatusCode> {
    state
        .platform
        .create_environment(&path.tenant, &path.project, &path.environment)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes an environment that nothing is in.
#[utoipa::path(
    delete,
    path = "/{environment}",
    tag = "environments",
    params(EnvironmentPath),
    responses((status = 204, description = "The environment is gone."))
)]
pub(super) async fn remove_environment(
    FromState(state): FromState<State>,
    Path(path): Path<EnvironmentPath>,
) -> Answer<StatusCode> {
    state
        .platform
        .remove_environment(&path.tenant, &path.project, &path.environment)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(platform: &Platform, environment: &model::Environment) -> Option<Environment> {
    let metadata = &environment.metadata;
    let name = Name::new(metadata.name.as_str()).ok()?;
    let inside = Scope::environment(
        metadata.tenant.clone()?,
        metadata.project.clone()?,
        name.clone(),
    );
    Some(Environment {
        name,
        created: metadata.created,
        applications: platform.client().keys(Kind::Application, &inside).len(),
    })
}
