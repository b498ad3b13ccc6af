use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::watch;

use super::lock::lock;
use crate::{
    Result,
    backend::{LogLine, LogRequest, WorkloadId},
};

/// The most lines that are kept, of all workloads together.
const LINES_MAX: usize = 10_000;

/// What instances wrote, in order of time.
#[derive(Debug, Default)]
pub(super) struct Logs {
    kept: Mutex<VecDeque<Kept>>,
    /// How many lines were ever written.
    written: watch::Sender<u64>,
}

#[derive(Clone, Debug)]
struct Kept {
    /// Counts from 0 and never changes, so that a follower knows where it is.
    number: u64,
    workload: WorkloadId,
    release: u64,
    line: LogLine,
}

impl Logs {
    pub(super) fn write(&self, workload: &WorkloadId, release: u64, line: LogLine) {
        let mut kept = lock(&self.kept);
        if kept.len() == LINES_MAX {
            kept.pop_front();
        }
        let number = *self.written.borrow();
        kept.push_back(Kept {
            number,
            workload: workload.clone(),
            release,
            line,
        });
        self.written.send_replace(number + 1);
    }

    pub(super) fn forget(&self, workload: &WorkloadId) {
        lock(&self.kept).retain(|line| line.workload != *workload);
    }

    pub(super) fn read(
        self: Arc<Self>,
        request: &LogRequest,
    ) -> BoxStream<'static, Result<LogLine>> {
        let written = self.written.subscribe();
        let (mut lines, next) = self.after(0, request);
        if let Some(tail) = request.tail {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        let past = stream::iter(lines.into_iter().map(Ok));
        if !request.follow {
            return past.boxed();
        }
        let state = (self, written, next, request.clone());
        let later = stream::unfold(state, |(logs, mut written, next, request)| async move {
            written.wait_for(|count| *count > next).await.ok()?;
            let (lines, next) = logs.after(next, &request);
            let lines = stream::iter(lines.into_iter().map(Ok));
            Some((lines, (logs, written, next, request)))
        });
        past.chain(later.flatten()).boxed()
    }

    /// The lines asked for from a number on, and the number after them.
    fn after(&self, first: u64, request: &LogRequest) -> (Vec<LogLine>, u64) {
        let kept = lock(&self.kept);
        let start = kept.partition_point(|line| line.number < first);
        let lines = kept.range(start..);
        let wanted = lines.filter(|line| line.answers(request));
        let lines = wanted.map(|line| line.line.clone()).collect();
        (lines, *self.written.borrow())
    }
}

impl Kept {
    fn answers(&self, request: &LogRequest) -> bool {
        let process = request.process.as_ref();
        self.workload.application == request.application
            && process.is_none_or(|process| *process == self.workload.process)
            && request
                .release
                .is_none_or(|release| release == self.release)
            && request.since.is_none_or(|since| since <= self.line.at)
    }
}
