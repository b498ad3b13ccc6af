//! What operators ask: is the server alive, is it ready, how does it do. Not for the public.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State as FromState,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use tappaas_core::{Error, Key, Kind, Result, Scope, platform::Platform};

use crate::{Metrics, failure::Failure};

/// How long the store may take to answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
struct Admin {
    platform: Platform,
    metrics: Arc<Metrics>,
}

/// `/healthz`: the process lives. `/readyz`: the store answers and the caches are in sync. `/metrics`: figures.
pub fn router(platform: Platform, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .with_state(Admin { platform, metrics })
}

async fn ready(FromState(admin): FromState<Admin>) -> Response {
    match check(&admin.platform).await {
        Ok(()) => "ok\n".into_response(),
        Err(error) => Failure::from(error)
            .with_status(StatusCode::SERVICE_UNAVAILABLE)
            .into_response(),
    }
}

async fn check(platform: &Platform) -> Result<()> {
    if !platform.client().synced() {
        return Err(Error::unavailable(
            "the caches are not in sync with the store yet",
        ));
    }
    // Whether it is there is no matter: that the store can tell is.
    let key = Key::new(Kind::HostClaim, Scope::cluster(), "ready");
    let read = tokio::time::timeout(STORE_TIMEOUT, platform.backends().store.get(&key));
    let read = read
        .await
        .map_err(|_| Error::unavailable("the store does not answer"))?;
    read.map(drop)
        .map_err(|error| Error::unavailable("the store cannot be read").with_source(error))
}

async fn figures(FromState(admin): FromState<Admin>) -> Response {
    let media = [(header::CONTENT_TYPE, Metrics::MEDIA_TYPE)];
    (media, admin.metrics.render().await).into_response()
}
