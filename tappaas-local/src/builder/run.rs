use std::collections::BTreeSet;

use tappaas_core::{
    Chain, Digest, Error, ErrorKind, Result,
    backend::{BuildId, BuildOutcome, BuildRequest},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::log::Log;

/// One run of the builder, for all requests that are attached to it.
#[derive(Debug)]
pub(super) struct Run {
    /// Its key and repository: where requests can share a build.
    pub(super) place: Digest,
    /// The request it was begun for.
    pub(super) request: BuildRequest,
    pub(super) log: Log,
    pub(super) cancel: CancellationToken,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    attached: BTreeSet<BuildId>,
    end: Option<Result<BuildOutcome, Failure>>,
}

/// Why a build failed; can be told to several.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    kind: ErrorKind,
    message: String,
    cause: Option<String>,
}

impl Run {
    pub(super) fn new(place: Digest, request: BuildRequest, log: Log) -> Self {
        let attached = BTreeSet::from([request.id.clone()]);
        Self {
            place,
            request,
            log,
            cancel: CancellationToken::new(),
            progress: watch::Sender::new(Progress {
                attached,
                end: None,
            }),
        }
    }

    pub(super) fn attach(&self, id: &BuildId) {
        self.progress
            .send_modify(|progress| _ = progress.attached.insert(id.clone()));
    }

    /// Takes a request away. Without any left the run is cancelled. Says whether it was attached.
    pub(super) fn detach(&self, id: &BuildId) -> bool {
        self.progress.send_if_modified(|progress| {
            let removed = progress.attached.remove(id);
            if removed && progress.attached.is_empty() {
                self.cancel.cancel();
            }
            removed
        })
    }

    pub(super) fn attached(&self) -> Vec<BuildId> {
        self.progress.borrow().attached.iter().cloned().collect()
    }

    pub(super) fn end(&self, end: Result<BuildOutcome, Failure>) {
        self.progress
            .send_modify(|progress| progress.end = Some(end));
    }

    /// Waits until the build ended, or the request was cancelled.
    pub(super) async fn outcome(&self, id: &BuildId) -> Result<BuildOutcome> {
        let mut progress = self.progress.subscribe();
        let over = |progress: &Progress| progress.end.is_some() || !progress.attached.contains(id);
        let progress = progress
            .wait_for(over)
            .await
            .expect("`self` holds the sender");
        match &progress.end {
            _ if !progress.attached.contains(id) => {
                Err(Error::conflict(format!("build {id} was cancelled")))
            }
            Some(Ok(outcome)) => Ok(outcome.clone()),
            Some(Err(failure)) => Err(failure.error()),
            None => Err(Error::internal(format!("build {id} is not over"))),
        }
    }

    /// Waits until the build ended.
    pub(super) async fn ended(&self) {
        let mut progress = self.progress.subscribe();
        progress
            .wait_for(|progress| progress.end.is_some())
            .await
            .ok();
    }
}

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        let cause = std::error::Error::source(error).map(|source| Chain(source).to_string());
        Self {
            kind: error.kind(),
            message: error.message().to_owned(),
            cause,
        }
    }

    pub(super) fn error(&self) -> Error {
        let error = Error::new(self.kind, &self.message);
        match &self.cause {
            Some(cause) => error.with_source(cause.clone()),
            None => error,
        }
    }
}
