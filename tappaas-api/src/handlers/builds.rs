use axum::{extract::State as FromState, response::Response};
use tappaas_core::{
    Error,
    backend::BuildId,
    model::{self, ApplicationKey, BuildObjectSpec},
};

use super::logs;
use crate::{
    State,
    extract::{Path, Query},
    failure::Answer,
    types::{ApplicationPath, Build, BuildLogQuery, BuildPath, List, LogEvent},
};

/// Lists the builds of an application that are kept, the newest last.
#[utoipa::path(
    get,
    path = "/builds",
    tag = "builds",
    params(ApplicationPath),
    responses((status = 200, description = "The builds.", body = List<Build>))
)]
pub(super) async fn list_builds(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
) -> Answer<axum::Json<List<Build>>> {
    let key = path.key();
    state.platform.application(&key)?;
    Ok(axum::Json(
        kept(&state, &key).iter().map(Build::from).collect(),
    ))
}

/// Reads what a build wrote.
#[utoipa::path(
    get,
    path = "/builds/{build}/logs",
    tag = "builds",
    params(ApplicationPath, BuildPath, BuildLogQuery),
    responses((status = 200, description = "The lines, as newline-delimited JSON.", body = LogEvent, content_type = "application/x-ndjson"))
)]
pub(super) async fn read_build_logs(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
    Path(BuildPath { build }): Path<BuildPath>,
    Query(query): Query<BuildLogQuery>,
) -> Answer<Response> {
    let key = path.key();
    state.platform.application(&key)?;
    let builds = kept(&state, &key);
    let found = builds.iter().find(|found| found.spec.number == build);
    let found =
        found.ok_or_else(|| Error::not_found(format!("{} has no build {build}", key.name)))?;
    let id = BuildId(found.metadata.uid.clone());
    let lines = state.platform.backends().builder.logs(&id, query.follow);
    Ok(logs::answer(lines.await?))
}

fn kept(state: &State, key: &ApplicationKey) -> Vec<model::Build> {
    let mut builds = state
        .platform
        .client()
        .list::<BuildObjectSpec>(&key.scope());
    builds.retain(|build| build.spec.application == key.name);
    builds.sort_by_key(|build| build.spec.number);
    builds
}
