use axum::{extract::State as FromState, response::Response};
use futures::{Stream, StreamExt as _, stream};
use http::StatusCode;
use tappaas_core::{Error, Kind, Result, Scope, model::OperationSpec, platform::Platform};

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
    responses((status = 200, body = Operation))
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
    responses((status = 200, body = OperationEvent, content_type = "application/x-ndjson"))
)]
pub(super) async fn follow_operation(
    FromState(state): FromState<State>,
    Path(path): Path<EnvironmentPath>,
    Path(OperationPath { operation }): Path<OperationPath>,
) -> Answer<Response> {
    let scope = path.scope();
    find(&state.platform, &scope, &operation)?;
    Ok(ndjson::lines(progress(state.platform, scope, operation)))
}

fn find(platform: &Platform, scope: &Scope, id: &str) -> Result<Operation> {
    let found = platform.client().get::<OperationSpec>(scope, id)?;
    let found = found.as_ref().map(Operation::from);
    found.ok_or_else(|| Error::not_found(format!("there is no operation {}", id.escape_default())))
}

fn progress(
    platform: Platform,
    scope: Scope,
    id: String,
) -> impl Stream<Item = OperationEvent> + Send {
    // Changes are subscribed to before the first look, so that none is missed.
    let changes = platform.client().changes(Kind::Operation);
    let looks = stream::once(std::future::ready(())).chain(changes);
    let seen = looks.map(move |()| find(&platform, &scope, &id));
    let told = seen.scan((None, false), |(last, over), seen| {
        if *over {
            return std::future::ready(None);
        }
        let event = match seen {
            Ok(operation) if last.as_ref() == Some(&operation) => None,
            Ok(operation) => {
                *over = operation.state.ended();
                *last = Some(operation.clone());
                Some(OperationEvent::Operation(operation))
            }
            Err(error) => {
                *over = true;
                Some(OperationEvent::Problem(Problem::from(&error)))
            }
        };
        std::future::ready(Some(event))
    });
    told.filter_map(std::future::ready)
}
