use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use futures::StreamExt as _;
use tappaas_api::types::{Accepted, LogQuery, Operation, OperationState};
use tappaas_core::ErrorKind;

use super::session::Session;
use crate::output::Progress;

/// What shells tell of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// How many of a refused release's last lines are shown.
const LAST_LINES: usize = 20;

const LOST: &str =
    "lost the server while it worked; `tappaas status` shows how it goes once it is back";

/// Waits for what was accepted, and tells how it went by text and exit code. Ctrl-C ends the waiting alone.
pub(super) async fn settle(session: &Session, accepted: &Accepted, wait: bool) -> Result<ExitCode> {
    let printer = session.printer;
    let Some(id) = begun(session, accepted)? else {
        return Ok(ExitCode::SUCCESS);
    };
    if !wait {
        printer.value(accepted, |_| printer.line(id))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut progress = printer.progress();
    tokio::select! {
        operation = follow(session, id, &mut progress) => finish(session, operation?, progress).await,
        _ = tokio::signal::ctrl_c() => {
            drop(progress);
            printer.note(format_args!(
                "it goes on without this command: `tappaas status` shows how, `tappaas cancel {id}` ends it"
            ));
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// Waits for what was accepted as [`settle`] does, for a command that has a meaning of its own for Ctrl-C.
pub(super) async fn conclude(session: &Session, accepted: &Accepted) -> Result<ExitCode> {
    let Some(id) = begun(session, accepted)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut progress = session.printer.progress();
    let operation = follow(session, id, &mut progress).await?;
    finish(session, operation, progress).await
}

/// Tells what was noted, and the operation to wait for; `None` if nothing is to be done.
fn begun<'a>(session: &Session, accepted: &'a Accepted) -> Result<Option<&'a String>> {
    let printer = session.printer;
    for note in &accepted.notes {
        printer.note(format_args!("note: {note}"));
    }
    if accepted.operation.is_none() {
        printer.value(accepted, |_| printer.line("nothing changed"))?;
    }
    Ok(accepted.operation.as_ref())
}

/// Follows an operation to its end.
pub(super) async fn follow(
    session: &Session,
    id: &str,
    progress: &mut Progress,
) -> Result<Operation> {
    match end(session, id, progress).await {
        Ok(Some(operation)) => Ok(operation),
        // The server went away meanwhile; the operation goes on when it is back.
        Ok(None) => Err(anyhow!(LOST)),
        Err(error) if error.kind() == ErrorKind::Unavailable => Err(error).context(LOST),
        Err(error) => Err(error.into()),
    }
}

/// An operation that has ended; `None` if the server had no more to tell before that.
async fn end(
    session: &Session,
    id: &str,
    progress: &mut Progress,
) -> tappaas_core::Result<Option<Operation>> {
    let mut events = session
        .client
        .watch_operation(&session.environment, id)
        .await?;
    while let Some(operation) = events.next().await {
        let operation = operation?;
        if operation.state.ended() {
            return Ok(Some(operation));
        }
        progress.step(&operation.message);
    }
    Ok(None)
}

async fn finish(session: &Session, operation: Operation, progress: Progress) -> Result<ExitCode> {
    let succeeded = operation.state == OperationState::Succeeded;
    progress.finish(if succeeded { "✓" } else { "✗" }, &operation.message);
    session.printer.value(&operation, |_| ())?;
    if succeeded {
        return Ok(ExitCode::SUCCESS);
    }
    if operation.state == OperationState::Failed {
        last_lines(session, &operation).await;
    }
    Ok(ExitCode::FAILURE)
}

/// Shows what a refused release or build wrote last.
pub(super) async fn last_lines(session: &Session, operation: &Operation) {
    let printer = session.printer;
    let app = &operation.application;
    let lines = match (operation.release, operation.build) {
        (Some(release), _) => {
            let query = LogQuery {
                release: Some(release),
                tail: Some(LAST_LINES),
                ..LogQuery::default()
            };
            session.client.logs(&session.environment, app, &query).await
        }
        (None, Some(build)) => {
            session
                .client
                .build_logs(&session.environment, app, build, false)
                .await
        }
        (None, None) => return,
    };
    let Ok(lines) = lines else {
        return;
    };
    let lines: Vec<_> = lines.filter_map(|line| async { line.ok() }).collect().await;
    let shown = &lines[lines.len().saturating_sub(LAST_LINES)..];
    if shown.is_empty() || printer.json() {
        return;
    }
    printer.note("its last lines:");
    for line in shown {
        printer.note(format_args!("  {}", line.text));
    }
}

pub(super) async fn cancel(session: &Session, id: &str) -> Result<()> {
    session.client.cancel(&session.environment, id).await?;
    let cancelled = serde_json::json!({ "cancelled": id });
    session
        .printer
        .value(&cancelled, |_| session.printer.line("cancelled"))
}
