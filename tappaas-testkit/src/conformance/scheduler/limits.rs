use tappaas_core::{
    ErrorKind, Scope,
    backend::{Scheduler, WorkloadStatus},
    model::Limits,
};

use super::{SchedulerFixture, Stage};
use crate::conformance::{
    Failure, Verdict, macros::ensure, name, pass_over, stays, until, verdict::refused,
};

/// Where it holds quotas, an instance beyond the limits last given to `prepare` is not placed, with the limit as its reason, until they
/// are raised; what runs already goes on.
pub async fn instances_beyond_the_limits_of_their_environment_are_not_placed(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let case = "instances_beyond_the_limits_of_their_environment_are_not_placed";
    let mut stage = Stage::new(fixture);
    if !quotas(&stage, case) {
        return Ok(());
    }
    stage.id.application.environment = name("limited");
    let (scheduler, environment) = (stage.scheduler.clone(), stage.id.application.scope());
    scheduler.prepare(&environment, &instances(2)).await?;
    let template = stage.serving("a").await;
    stage.apply(&[(1, 1, &template)]).await?;
    let first = stage.ready(1).await?.remove(0).id;
    stage.apply(&[(1, 4, &template)]).await?;
    let beyond = |status: &WorkloadStatus| {
        let ready = status.instances.iter().filter(|one| one.ready).count();
        let missing: u32 = status.unplaced.iter().map(|it| it.missing).sum();
        let mut reasons = status.unplaced.iter().flat_map(|it| &it.reasons);
        (ready, missing) == (2, 2) && reasons.any(|reason| reason.contains("limit"))
    };
    stage
        .until("two have a place and two have none", beyond)
        .await?;
    // Below what runs: nothing is taken away.
    scheduler.prepare(&environment, &instances(1)).await?;
    stays("the first one goes on", async || {
        let mut instances = stage.status().await?.instances.into_iter();
        Ok(instances.any(|one| one.id == first && one.ready))
    })
    .await?;
    scheduler.prepare(&environment, &Limits::default()).await?;
    stage.ready(4).await?;
    leave(&stage, &environment).await
}

/// Elsewhere `prepare` refuses limits with `Unsupported`, and changes nothing.
pub async fn limits_that_cannot_be_kept_are_refused(fixture: &dyn SchedulerFixture) -> Verdict {
    let case = "limits_that_cannot_be_kept_are_refused";
    let mut stage = Stage::new(fixture);
    if stage.scheduler.capabilities().quotas {
        pass_over(case, "the scheduler holds quotas");
        return Ok(());
    }
    let environment = stage.id.application.scope();
    let answer = stage.scheduler.prepare(&environment, &instances(1)).await;
    refused(answer, ErrorKind::Unsupported, "limits")?;
    let unlimited = Limits::default();
    stage.scheduler.prepare(&environment, &unlimited).await?;
    let template = stage.serving("a").await;
    stage.apply(&[(1, 2, &template)]).await?;
    stage.ready(2).await?;
    Ok(())
}

fn quotas(stage: &Stage<'_>, case: &str) -> bool {
    let quotas = stage.scheduler.capabilities().quotas;
    if !quotas {
        pass_over(case, "the scheduler holds no quotas");
    }
    quotas
}

fn instances(most: u32) -> Limits {
    Limits {
        instances: Some(most),
        ..Limits::default()
    }
}

/// Other cases find nothing of this one's.
async fn leave(stage: &Stage<'_>, environment: &Scope) -> Verdict {
    let scheduler: &dyn Scheduler = &*stage.scheduler;
    scheduler.remove(&stage.id).await?;
    let gone = async || match scheduler.discard(environment).await {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind().retryable() => Ok(None),
        Err(error) => Err(Failure::from(error)),
    };
    until("the environment is discarded", gone).await?;
    let last = scheduler.observe(&stage.id).await?;
    ensure!(last.is_none(), "something is left: {last:?}");
    Ok(())
}
