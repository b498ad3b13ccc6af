use axum::{extract::State as FromState, response::Response};
use tappaas_core::{
    Error, Result,
    model::{self, ApplicationKey, ReleaseSpec},
};

use super::accepted;
use crate::{
    State,
    difference::differences,
    extract::{Json, Path, Query},
    failure::Answer,
    types::{
        Accepted, ApplicationPath, Difference, List, Release, ReleasesPath, RevealQuery,
        RollbackRequest,
    },
};

/// Lists the releases of an application that are kept, the newest last.
#[utoipa::path(
    get,
    path = "/releases",
    tag = "releases",
    params(ApplicationPath),
    responses((status = 200, description = "The releases.", body = List<Release>))
)]
pub(super) async fn list_releases(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
) -> Answer<axum::Json<List<Release>>> {
    let key = path.key();
    let current = state.platform.application(&key)?.status.current;
    let releases = kept(&state, &key);
    let shown = releases
        .iter()
        .map(|release| Release::new(release, current));
    Ok(axum::Json(shown.collect()))
}

/// Compares two releases. Values of environment variables are left out unless they are to be revealed.
#[utoipa::path(
    get,
    path = "/releases/{release}/diff/{other}",
    tag = "releases",
    params(ApplicationPath, ReleasesPath, RevealQuery),
    responses((status = 200, description = "What differs.", body = List<Difference>))
)]
pub(super) async fn compare_releases(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
    Path(ReleasesPath { release, other }): Path<ReleasesPath>,
    Query(RevealQuery { reveal }): Query<RevealQuery>,
) -> Answer<axum::Json<List<Difference>>> {
    let key = path.key();
    state.platform.application(&key)?;
    let releases = kept(&state, &key);
    let (before, after) = (
        find(&releases, &key, release)?,
        find(&releases, &key, other)?,
    );
    let items = differences(&before.spec, &after.spec, reveal)?;
    Ok(axum::Json(List { items }))
}

/// Goes back to the content and image of an older release.
#[utoipa::path(
    post,
    path = "/rollback",
    tag = "releases",
    params(ApplicationPath),
    request_body = RollbackRequest,
    responses((status = 202, description = "The operation goes on.", body = Accepted))
)]
pub(super) async fn rollback(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
    Json(request): Json<RollbackRequest>,
) -> Answer<Response> {
    let key = path.key();
    Ok(accepted(
        &key,
        state.platform.rollback(&key, request.release).await?,
    ))
}

fn kept(state: &State, key: &ApplicationKey) -> Vec<model::Release> {
    let mut releases = state.platform.client().list::<ReleaseSpec>(&key.scope());
    releases.retain(|release| release.spec.application == key.name);
    releases.sort_by_key(|release| release.spec.version);
    releases
}

fn find<'a>(
    releases: &'a [model::Release],
    key: &ApplicationKey,
    version: u64,
) -> Result<&'a model::Release> {
    let found = releases
        .iter()
        .find(|release| release.spec.version == version);
    found.ok_or_else(|| Error::not_found(format!("{} has no release {version}", key.name)))
}
