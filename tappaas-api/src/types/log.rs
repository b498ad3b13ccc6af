use serde::{Deserialize, Serialize};
use tappaas_core::{Name, Timestamp, backend};
use utoipa::{IntoParams, ToSchema};

use super::Problem;

/// A line that a process or a build wrote.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// When it was read.
    pub at: Timestamp,
    /// The process and instance it comes from; for a build, its step.
    pub origin: String,
    /// Where it was written to.
    pub stream: LogStream,
    /// The line without its end.
    pub text: String,
}

/// Where a line was written to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a stream of log lines (newline-delimited JSON).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogEvent {
    /// A line.
    Line(LogLine),
    /// Reading failed; the stream ends.
    Problem(Problem),
}

/// Which log lines of an application.
#[derive(Clone, Debug, Default, Deserialize, Eq, IntoParams, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Of this process. Default: all.
    #[param(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Name>,
    /// Of this release. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<u64>,
    /// Not before this time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Of those the last so many. Default: all that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<usize>,
    /// Go on with later lines.
    pub follow: bool,
}

/// Which log lines of a build.
#[derive(Clone, Debug, Default, Deserialize, Eq, IntoParams, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BuildLogQuery {
    /// Go on until the build ends.
    pub follow: bool,
}

impl From<backend::LogLine> for LogLine {
    fn from(line: backend::LogLine) -> Self {
        Self {
            at: line.at,
            origin: line.origin,
            stream: if line.error {
                LogStream::Stderr
            } else {
                LogStream::Stdout
            },
            text: line.text,
        }
    }
}
