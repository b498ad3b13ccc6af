use axum::extract::State as FromState;
use http::StatusCode;
use tappaas_core::Error;
use tokio::sync::mpsc::error::TrySendError;

use crate::{
    State,
    extract::Json,
    failure::Answer,
    types::{Stop, Version},
};

/// Says what this server is.
#[utoipa::path(get, path = "/version", tag = "server", responses((status = 200, description = "What this server is.", body = Version)))]
pub(super) async fn version(FromState(state): FromState<State>) -> axum::Json<Version> {
    axum::Json(state.version)
}

/// Stops the server. Applications go on unless asked otherwise.
#[utoipa::path(
    post,
    path = "/stop",
    tag = "server",
    request_body = Stop,
    responses((status = 202, description = "The server stops."))
)]
pub(super) async fn stop(
    FromState(state): FromState<State>,
    Json(stop): Json<Stop>,
) -> Answer<StatusCode> {
    // What rolls by itself is a cluster, and others may use it, too.
    if stop.apps && !state.platform.backends().scheduler.capabilities().stepwise {
        return Err(Error::unsupported(
            "applications run in a cluster, and go on without this server: scale them to 0, or destroy them",
        )
        .into());
    }
    match state.stop.try_send(stop) {
        // A message that waits already says the same.
        Ok(()) | Err(TrySendError::Full(_)) => Ok(StatusCode::ACCEPTED),
        Err(TrySendError::Closed(_)) => {
            Err(Error::unavailable("the server is stopping already").into())
        }
    }
}
