use axum::{extract::State as FromState, response::Response};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tappaas_core::{
    Result,
    backend::{LogLine, LogRequest},
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
