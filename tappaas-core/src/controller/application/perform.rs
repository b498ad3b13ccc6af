use std::time::Duration;

use super::{RETRY, Snapshot, Step};
use crate::{
    Chain, Error, ErrorKind, Result,
    controller::Context,
    model::{ReleasePhase, ReleaseStatus},
};

/// What became of the steps of a plan.
#[derive(Debug)]
pub(super) struct Done {
    /// Something is otherwise than before.
    pub(super) acted: bool,
    /// What held nothing up is to be tried again after this time.
    pub(super) next: Option<Duration>,
    /// How it ended.
    pub(super) outcome: Result<()>,
}

impl Context {
    /// Executes steps in their order, up to the first that fails.
    pub(super) async fn perform(&self, snapshot: &Snapshot, steps: Vec<Step>) -> Done {
        let mut done = Done {
            acted: false,
            next: None,
            outcome: Ok(()),
        };
        for step in steps {
            tracing::debug!(application = %snapshot.key, %step, "execute");
            let (inner, repeats) = (step.is_inner_route(), snapshot.repeats(&step));
            let (compares, tried) = (step.compares(), snapshot.tried(&step));
            match self.execute(snapshot, step).await {
                Ok(()) => done.acted |= !repeats,
                // A caller's way in is no reason to hold up what everybody else gets. No instance is stopped while
                // the route that is there leads to it.
                Err(error) if inner => {
                    tracing::warn!(application = %snapshot.key, error = %Chain(&error), "a route from inside cannot be made");
                    done.next = Some(RETRY);
                }
                Err(error) => {
                    done.outcome = self.failed(snapshot, tried, compares, error).await;
                    done.acted |= done.outcome.is_ok();
                    break;
                }
            }
        }
        done
    }

    /// What a failed step means for the release that it brings, if it does.
    async fn failed(
        &self,
        snapshot: &Snapshot,
        tried: Option<u64>,
        compares: bool,
        error: Error,
    ) -> Result<()> {
        let tried = tried.filter(|_| snapshot.is_final(&error));
        // What is refused now is refused again: nobody would ever learn why the release does not come.
        if let Some(judge) = tried.and_then(|release| snapshot.refuse(release, &error)) {
            return self.execute(snapshot, judge).await;
        }
        if compares && [ErrorKind::Conflict, ErrorKind::NotFound].contains(&error.kind()) {
            self.check_same(snapshot).await?;
        }
        Err(error)
    }
}

impl Snapshot {
    /// The release that has not ended and that a step brings instances of, or a volume for.
    fn tried(&self, step: &Step) -> Option<u64> {
        let latest = self.releases.last()?;
        let version = latest.spec.version;
        let brings = match step {
            Step::ApplyWorkload(workload) => {
                workload.releases.iter().any(|set| set.release == version)
            }
            Step::ApplyVolume(_) => true,
            _ => false,
        };
        (brings && !latest.status.phase.ended()).then_some(version)
    }

    /// Says whether what failed so fails until somebody changes something. Where limits are kept, those of the environment are meant.
    fn is_final(&self, error: &Error) -> bool {
        let limited = self.quotas && self.limits.storage.is_some();
        error.kind().refused() || (limited && error.kind() == ErrorKind::Exhausted)
    }

    /// Records that a release cannot run.
    fn refuse(&self, release: u64, error: &Error) -> Option<Step> {
        let release = self.release(release)?;
        Some(Step::Judge {
            release: release.spec.version,
            status: Box::new(ReleaseStatus {
                phase: ReleasePhase::Failed,
                message: Chain(error).to_string(),
                ended: Some(self.now),
                ..release.status.clone()
            }),
        })
    }

    /// Says whether a step does again what was done already, which is no news.
    fn repeats(&self, step: &Step) -> bool {
        match step {
            Step::ApplyRoute(route) => {
                let last = self.routes.get(&route.id);
                last.is_some_and(|last| last.route.generation == route.generation)
            }
            Step::ApplyWorkload(workload) => {
                let last = self.workloads.get(&workload.id);
                last.is_some_and(|last| last.generation == workload.generation)
            }
            _ => false,
        }
    }
}
