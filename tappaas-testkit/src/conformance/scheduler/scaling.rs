use tappaas_core::{ErrorKind, backend::WorkloadStatus, model::Autoscale};

use super::{SchedulerFixture, Stage};
use crate::conformance::{Verdict, macros::ensure, pass_over, verdict::refused};

/// Where it autoscales, a workload has as many instances as the scheduler finds right between the bounds, and `observe` tells how many;
/// without them it has as many as counted again.
pub async fn an_autoscaled_workload_stays_within_its_bounds(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    if !stage.scheduler.capabilities().autoscaling {
        let case = "an_autoscaled_workload_stays_within_its_bounds";
        pass_over(case, "the scheduler does not autoscale");
        return Ok(());
    }
    let mut template = stage.serving("a").await;
    template.resources.cpu_millis = Some(100);
    template.placement.requests = template.resources;
    stage.apply(&[(1, 1, &template)]).await?;
    stage.ready(1).await?;
    for bounds in [bounds(2, 3), bounds(3, 4), bounds(1, 2)] {
        stage.autoscale(1, bounds, &template).await?;
        let within = |status: &WorkloadStatus| {
            let Some(autoscaling) = &status.autoscaling else {
                return false;
            };
            let wanted = autoscaling.wanted;
            let ready = status.instances.iter().filter(|one| one.ready).count();
            autoscaling.bounds == bounds
                && (bounds.min..=bounds.max).contains(&wanted)
                && ready == wanted as usize
                && status.instances.len() == ready
        };
        stage
            .until("as many are ready as are wanted", within)
            .await?;
    }
    stage.apply(&[(1, 1, &template)]).await?;
    stage.ready(1).await?;
    let status = stage.status().await?;
    ensure!(
        status.autoscaling.is_none(),
        "it is still autoscaled: {status:?}"
    );
    Ok(())
}

/// Elsewhere a workload that is to be autoscaled is refused with `Unsupported`.
pub async fn what_cannot_be_autoscaled_is_refused(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    if stage.scheduler.capabilities().autoscaling {
        let case = "what_cannot_be_autoscaled_is_refused";
        pass_over(case, "the scheduler autoscales");
        return Ok(());
    }
    let template = stage.serving("a").await;
    let answer = stage.autoscale(1, bounds(1, 2), &template).await;
    refused(answer, ErrorKind::Unsupported, "bounds")?;
    let observed = stage.scheduler.observe(&stage.id).await?;
    ensure!(observed.is_none(), "it was taken: {observed:?}");
    Ok(())
}

fn bounds(min: u32, max: u32) -> Autoscale {
    Autoscale {
        min,
        max,
        cpu_percent: 50,
    }
}
