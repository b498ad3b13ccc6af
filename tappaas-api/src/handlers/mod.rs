//! The handlers, a module for each kind of thing.

mod applications;
mod builds;
mod config;
mod environments;
mod exec;
mod logs;
mod operations;
mod releases;
mod server;
mod sources;
mod volumes;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tappaas_core::model::ApplicationKey;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{State, types::Accepted};

/// Every route, with its path and its part of the OpenAPI document.
pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(server::version))
        .nest(
            "/api/v1/server",
            OpenApiRouter::new().routes(routes!(server::stop)),
        )
        .nest(
            "/api/v1/tenants/{tenant}/projects/{project}/environments",
            OpenApiRouter::new()
                .routes(routes!(environments::list_environments))
                .routes(routes!(
                    environments::create_environment,
                    environments::remove_environment
                ))
                .nest("/{environment}", in_environment()),
        )
}

fn in_environment() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(
            operations::show_operation,
            operations::cancel_operation
        ))
        .routes(routes!(operations::follow_operation))
        .routes(routes!(volumes::list_volumes))
        .routes(routes!(volumes::remove_volume))
        .routes(routes!(applications::list_applications))
        .nest("/applications/{application}", in_application())
}

fn in_application() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(
            applications::show_application,
            applications::deploy,
            applications::destroy
        ))
        .routes(routes!(applications::plan))
        .routes(routes!(applications::scale))
        .routes(routes!(applications::restart))
        .routes(routes!(applications::list_instances))
        .routes(routes!(sources::upload_source))
        .routes(routes!(config::show_config, config::change_config))
        .routes(routes!(releases::list_releases))
        .routes(routes!(releases::compare_releases))
        .routes(routes!(releases::rollback))
        .routes(routes!(builds::list_builds))
        .routes(routes!(builds::read_build_logs))
        .routes(routes!(logs::read_logs))
        .routes(routes!(exec::exec))
}

/// 202 and where to look, or 200 if nothing had to be done.
fn accepted(key: &ApplicationKey, accepted: tappaas_core::platform::Accepted) -> Response {
    let accepted = Accepted::from(accepted);
    let Some(operation) = &accepted.operation else {
        return axum::Json(accepted).into_response();
    };
    let location = format!(
        "/api/v1/tenants/{}/projects/{}/environments/{}/operations/{operation}",
        key.tenant, key.project, key.environment
    );
    let mut response = (StatusCode::ACCEPTED, axum::Json(accepted)).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
