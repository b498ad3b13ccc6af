use axum::{extract::State as FromState, response::Response};
use futures::StreamExt as _;
use http::StatusCode;
use tappaas_core::{Result, Scope, model, platform::Platform};

use crate::{
    State,
    extract::Path,
    failure::Answer,
    ndjson,
    types::{EnvironmentPath, Operation, OperationEvent, OperationPath, Problem},
};

/// Shows an operation.
#[utoipa::path(
    get,
    path = "/operations/{operation}",
    tag = "operations",
    params(EnvironmentPath, OperationPath),
    responses((status = 200, description = "The operation.", body = Operation))
)]
pub(super) async fn show_operation(
    FromState(state): FromState<State>,
    Path(path): Path<EnvironmentPath>,
    Path(OperationPath { operation }): Path<OperationPath>,
) -> Answer<axum::Json<Operation>> {
    Ok(axum::Json(find(
        &state.platform,
        &path.scope(),
        &operation,
    )?))
}

/// Cancels an operation: the application goes back to what it ran before.
#[utoipa::path(
    delete,
    path = "/operations/{operation}",
    tag = "operations",
    params(EnvironmentPath, OperationPath),
    responses((status = 202, description = "The operation is being cancelled."))
)]
pub(super) async fn cancel_operation(
    FromState(state): FromState<State>,
    Path(path): Path<EnvironmentPath>,
    Path(OperationPath { operation }): Path<OperationPath>,
) -> Answer<StatusCode> {
    state.platform.cancel(&path.scope(), &operation).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Follows an operation: tells how it is now, and each time that changes, until it has ended.
#[utoipa::path(
    get,
    path = "/operations/{operation}/progress",
    tag = "operations",
    params(EnvironmentPath, OperationPath),
    responses((status = 200, description = "How it goes, as newline-delimited JSON.", body = OperationEvent, content_type = "application/x-ndjson"))
)]
pub(super) async fn follow_operation(
    FromState(state): FromState<State>,
    Path(path): Path<EnvironmentPath>,
    Path(OperationPath { operation }): Path<OperationPath>,
) -> Answer<Response> {
    let scope = path.scope();
    find(&state.platform, &scope, &operation)?;
    let news = state.platform.follow(&scope, &operation);
    Ok(ndjson::lines(news.map(event)))
}

fn find(platform: &Platform, scope: &Scope, id: &str) -> Result<Operation> {
    Ok(Operation::from(&platform.operation(scope, id)?))
}

fn event(news: Result<model::Operation>) -> OperationEvent {
    match news {
        Ok(operation) => OperationEvent::Operation(Operation::from(&operation)),
        Err(error) => OperationEvent::Problem(Problem::from(&error)),
    }
}
