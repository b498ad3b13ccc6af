use std::collections::BTreeSet;

use axum::{extract::State as FromState, response::Response};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tappaas_core::{
    Error, Name, Result,
    backend::{LogLine, LogRequest},
    controller::application::processes,
    model::{ApplicationKey, ReleaseSpec},
};

use crate::{
    State,
    extract::{Path, Query},
    failure::Answer,
    ndjson,
    types::{ApplicationPath, LogEvent, LogQuery, Problem},
};

/// Reads what the instances of an application wrote.
#[utoipa::path(
    get,
    path = "/logs",
    tag = "applications",
    params(ApplicationPath, LogQuery),
    responses((status = 200, description = "The lines, as newline-delimited JSON.", body = LogEvent, content_type = "application/x-ndjson"))
)]
pub(super) async fn read_logs(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
    Query(query): Query<LogQuery>,
) -> Answer<Response> {
    let application = path.key();
    state.platform.application(&application)?;
    if let Some(process) = &query.process {
        known(&state, &application, process)?;
    }
    let request = LogRequest {
        application,
        process: query.process,
        release: query.release,
        since: query.since,
        tail: query.tail,
        follow: query.follow,
    };
    let lines = state.platform.backends().scheduler.logs(&request).await?;
    Ok(answer(lines))
}

/// Refuses a process that no release of the application has.
fn known(state: &State, key: &ApplicationKey, wanted: &Name) -> Result<()> {
    let releases = state.platform.client().list::<ReleaseSpec>(&key.scope());
    let own = releases
        .iter()
        .filter(|release| release.spec.application == key.name);
    let names: BTreeSet<Name> = own
        .flat_map(|release| processes(release).into_keys())
        .collect();
    if names.is_empty() || names.contains(wanted) {
        return Ok(());
    }
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    Err(Error::not_found(format!(
        "{} has no process {wanted}; it has {}",
        key.name,
        names.join(", ")
    )))
}

/// Answers with lines as they come. The first failure ends them.
pub(super) fn answer(lines: BoxStream<'static, Result<LogLine>>) -> Response {
    let events = stream::unfold(Some(lines), async |lines| {
        let mut lines = lines?;
        Some(match lines.next().await? {
            Ok(line) => (LogEvent::Line(line.into()), Some(lines)),
            Err(error) => (LogEvent::Problem(Problem::from(&error)), None),
        })
    });
    ndjson::lines(events)
}
