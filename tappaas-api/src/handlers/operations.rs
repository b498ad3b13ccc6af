use axum::{extract::State as FromState, response::Response};
use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
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
    Ok(ndjson::lines(progress(state.platform, scope, operation)))
}

fn find(platform: &Platform, scope: &Scope, id: &str) -> Result<Operation> {
    let found = platform.client().get::<OperationSpec>(scope, id)?;
    let found = found.as_ref().map(Operation::from);
    found.ok_or_else(|| Error::not_found(format!("there is no operation {}", id.escape_default())))
}

/// What a follower of an operation knows.
struct Follower {
    platform: Platform,
    scope: Scope,
    id: String,
    changes: BoxStream<'static, ()>,
    told: Option<Operation>,
}

/// How an operation is now, and each time that changes, until it has ended.
fn progress(
    platform: Platform,
    scope: Scope,
    id: String,
) -> impl Stream<Item = OperationEvent> + Send {
    let follower = Follower {
        // Subscribed to before the first look, so that no change is missed.
        changes: platform.client().changes(Kind::Operation),
        platform,
        scope,
        id,
        told: None,
    };
    stream::unfold(Some(follower), async |follower| follower?.news().await)
}

impl Follower {
    /// Waits until there is something to tell. After the last of it nobody follows any more.
    async fn news(mut self) -> Option<(OperationEvent, Option<Self>)> {
        loop {
            match find(&self.platform, &self.scope, &self.id) {
                Err(error) => {
                    return Some((OperationEvent::Problem(Problem::from(&error)), None));
                }
                Ok(operation) if self.told.as_ref() != Some(&operation) => {
                    self.told = Some(operation.clone());
                    let goes_on = !operation.state.ended();
                    return Some((
                        OperationEvent::Operation(operation),
                        goes_on.then_some(self),
                    ));
                }
                Ok(_) => self.changes.next().await?,
            }
        }
    }
}
