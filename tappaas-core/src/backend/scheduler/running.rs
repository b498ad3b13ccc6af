//! What is asked of what runs.

use std::fmt;

use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{InstanceId, WorkloadId};
use crate::{Name, Result, Timestamp, model::ApplicationKey};

/// Which log lines to read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRequest {
    /// Of this application,
    pub application: ApplicationKey,
    /// of this process (`None`: all),
    pub process: Option<Name>,
    /// of this release (`None`: all),
    pub release: Option<u64>,
    /// not before this time,
    pub since: Option<Timestamp>,
    /// of those the last so many (`None`: all kept),
    pub tail: Option<usize>,
    /// then the later ones, until the stream is dropped.
    pub follow: bool,
}

/// A line that a process or a build wrote.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// When it was read.
    pub at: Timestamp,
    /// The process and instance it comes from; for a build, its step.
    pub origin: String,
    /// Standard error, not standard output.
    pub error: bool,
    /// The line without its end. Invalid UTF-8 is replaced.
    pub text: String,
}

/// What to run inside an instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecRequest {
    /// In a ready instance of this workload,
    pub workload: WorkloadId,
    /// in this one in particular,
    pub instance: Option<InstanceId>,
    /// this program with these arguments,
    pub command: Vec<String>,
    /// on a terminal of so many columns and rows.
    pub terminal: Option<(u16, u16)>,
}

/// A command running inside an instance. Dropping both halves ends it.
pub struct Exec {
    /// What goes to its standard input; dropping it closes that.
    pub input: mpsc::Sender<Bytes>,
    /// What comes out, the exit last.
    pub output: BoxStream<'static, Result<ExecOutput>>,
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").finish_non_exhaustive()
    }
}

/// What comes out of an [`Exec`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ExecOutput {
    /// Bytes of standard output (with a terminal: all output).
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// The exit code (128 + signal if one killed it). The last item.
    Exited(i32),
}
