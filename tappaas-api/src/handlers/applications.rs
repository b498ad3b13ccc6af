use axum::{extract::State as FromState, response::Response};
use tappaas_core::{
    Name, Result,
    manifest::Manifest,
    model::{ApplicationKey, ApplicationSpec, Source},
    platform,
};

use super::accepted;
use crate::{
    State,
    extract::{Json, Path},
    failure::Answer,
    types::{
        Accepted, Application, ApplicationPath, Deployment, EnvironmentPath, Instance, List, Plan,
        Scale, SourceRequest, Step,
    },
};

/// Lists the applications of an environment.
#[utoipa::path(
    get,
    path = "/applications",
    tag = "applications",
    params(EnvironmentPath),
    responses((status = 200, description = "The applications.", body = List<Application>))
)]
pub(super) async fn list_applications(
    FromState(state): FromState<State>,
    Path(path): Path<EnvironmentPath>,
) -> Answer<axum::Json<List<Application>>> {
    let scope = path.scope();
    state.platform.require_environment(&scope)?;
    let applications = state.platform.client().list::<ApplicationSpec>(&scope);
    let shown = applications.iter().filter_map(|application| {
        let name = Name::new(application.metadata.name.as_str()).ok()?;
        Some(Application::new(name, application, Vec::new()))
    });
    Ok(axum::Json(shown.collect()))
}

/// Shows an application.
#[utoipa::path(
    get,
    path = "/",
    tag = "applications",
    params(ApplicationPath),
    responses((status = 200, description = "The application.", body = Application))
)]
pub(super) async fn show_application(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
) -> Answer<axum::Json<Application>> {
    let application = state.platform.application(&path.key())?;
    let nodes = state.platform.backends().scheduler.nodes().await?;
    let notes = nodes.into_iter().flat_map(|node| node.notes).collect();
    Ok(axum::Json(Application::new(
        path.application,
        &application,
        notes,
    )))
}

/// Deploys an application: creates it, or gives it new content.
///
/// The manifest is read here, in the environment of the path.
#[utoipa::path(
    put,
    path = "/",
    tag = "applications",
    params(ApplicationPath),
    request_body = Deployment,
    responses(
        (status = 200, description = "Nothing changed.", body = Accepted),
        (status = 202, description = "The operation goes on.", body = Accepted),
    )
)]
pub(super) async fn deploy(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
    Json(deployment): Json<Deployment>,
) -> Answer<Response> {
    let key = path.key();
    let deployment = resolved(&state, &key, deployment).await?;
    Ok(accepted(
        &key,
        state.platform.deploy(&key, deployment).await?,
    ))
}

/// Says what a deployment would do, and does nothing.
#[utoipa::path(
    post,
    path = "/plan",
    tag = "applications",
    params(ApplicationPath),
    request_body = Deployment,
    responses((status = 200, description = "What would be done.", body = Plan))
)]
pub(super) async fn plan(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
    Json(deployment): Json<Deployment>,
) -> Answer<axum::Json<Plan>> {
    let key = path.key();
    let deployment = resolved(&state, &key, deployment).await?;
    let plan = state.platform.plan(&key, deployment).await?;
    let steps = plan.steps.iter().map(|step| Step {
        description: step.to_string(),
    });
    Ok(axum::Json(Plan {
        steps: steps.collect(),
    }))
}

/// Changes how many instances run.
#[utoipa::path(
    patch,
    path = "/scale",
    tag = "applications",
    params(ApplicationPath),
    request_body = Scale,
    responses(
        (status = 200, description = "Nothing changed.", body = Accepted),
        (status = 202, description = "The operation goes on.", body = Accepted),
    )
)]
pub(super) async fn scale(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
    Json(scale): Json<Scale>,
) -> Answer<Response> {
    let key = path.key();
    Ok(accepted(
        &key,
        state.platform.scale(&key, scale.processes).await?,
    ))
}

/// Replaces every instance by a new one of the same content.
#[utoipa::path(
    post,
    path = "/restart",
    tag = "applications",
    params(ApplicationPath),
    responses((status = 202, description = "The operation goes on.", body = Accepted))
)]
pub(super) async fn restart(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
) -> Answer<Response> {
    let key = path.key();
    Ok(accepted(&key, state.platform.restart(&key).await?))
}

/// Ends an application. Its volumes stay.
#[utoipa::path(
    delete,
    path = "/",
    tag = "applications",
    params(ApplicationPath),
    responses((status = 202, description = "The operation goes on.", body = Accepted))
)]
pub(super) async fn destroy(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
) -> Answer<Response> {
    let key = path.key();
    Ok(accepted(&key, state.platform.destroy(&key).await?))
}

/// Lists the instances of an application.
#[utoipa::path(
    get,
    path = "/instances",
    tag = "applications",
    params(ApplicationPath),
    responses((status = 200, description = "The instances.", body = List<Instance>))
)]
pub(super) async fn list_instances(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
) -> Answer<axum::Json<List<Instance>>> {
    let key = path.key();
    state.platform.application(&key)?;
    let scheduler = &state.platform.backends().scheduler;
    let mut instances = Vec::new();
    let workloads = scheduler.list().await?;
    for id in workloads.iter().filter(|id| id.application == key) {
        let workload = scheduler.observe(id).await?;
        let found = workload.iter().flat_map(|workload| &workload.instances);
        instances.extend(found.map(|instance| Instance::new(&id.process, instance)));
    }
    Ok(axum::Json(List { items: instances }))
}

/// What a request to deploy means: its manifest in the environment, its source as the platform knows it.
async fn resolved(
    state: &State,
    key: &ApplicationKey,
    deployment: Deployment,
) -> Result<platform::Deployment> {
    let manifest = Manifest::parse(&deployment.manifest, Manifest::FILE)?;
    let source = match deployment.source {
        SourceRequest::Upload { digest } => Source::Upload {
            repository: state.platform.settings().repository(key),
            digest,
        },
        SourceRequest::Image { reference } => {
            let tenant = &key.tenant;
            state.platform.resolve_image(tenant, &reference).await?
        }
    };
    let resolved = manifest.resolve(&key.environment, source);
    Ok(resolved.into())
}
