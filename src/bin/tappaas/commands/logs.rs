use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{Stream, StreamExt as _};
use tappaas::SystemClock;
use tappaas_api::types::{LogLine, LogQuery};
use tappaas_core::{Clock as _, Timestamp};

use super::session::Session;
use crate::{cli::LogsArgs, output::Printer};

pub(super) async fn logs(session: &Session, args: &LogsArgs) -> Result<()> {
    let app = &args.app.app;
    let lines = match args.build {
        Some(build) => {
            session
                .client
                .build_logs(&session.environment, app, build, args.follow)
                .await?
        }
        None => {
            let query = LogQuery {
                process: args.process.clone(),
                release: None,
                since: args.since.as_deref().map(since).transpose()?,
                tail: Some(args.tail),
                follow: args.follow,
            };
            session
                .client
                .logs(&session.environment, app, &query)
                .await?
        }
    };
    print(session.printer, lines).await
}

/// Prints lines as they come.
pub(super) async fn print(
    printer: Printer,
    lines: impl Stream<Item = tappaas_core::Result<LogLine>>,
) -> Result<()> {
    let mut lines = std::pin::pin!(lines);
    while let Some(line) = lines.next().await {
        let line = line?;
        if printer.json() {
            let mut json = serde_json::to_vec(&line)?;
            json.push(b'\n');
            printer.raw(&json);
        } else {
            printer.line(format_args!(
                "{:.3} {} | {}",
                line.at, line.origin, line.text
            ));
        }
    }
    Ok(())
}

/// A time, or a span before now: `90s`, `10m`, `2h`, `1d`.
fn since(text: &str) -> Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let explain = || {
        format!("`{text}` is neither a time such as 2026-11-21T08:00:00Z nor a span such as 10m")
    };
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .with_context(explain)?;
    let number: u64 = number.parse().ok().with_context(explain)?;
    let seconds = match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3_600),
        "d" => number.checked_mul(86_400),
        _ => None,
    };
    let span = Duration::from_secs(seconds.with_context(explain)?);
    SystemClock
        .now()
        .checked_sub(span)
        .ok()
        .with_context(explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_times_and_spans() {
        assert_eq!(
            since("2026-11-21T08:00:00Z").unwrap().as_second(),
            1_795_248_000
        );
        let ago = SystemClock
            .now()
            .duration_since(since("2h").unwrap())
            .as_secs();
        assert!((7_199..7_300).contains(&ago), "{ago}");
        for bad in ["", "m", "10", "10y", "-5m", "99999999999999999999d", "ü"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
