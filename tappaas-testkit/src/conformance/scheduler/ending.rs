use std::time::Duration;

use futures::StreamExt as _;
use tappaas_core::{
    backend::{InstanceState, LogRequest, WorkloadStatus},
    model::RestartPolicy,
};

use super::{SchedulerFixture, Stage};
use crate::{
    Program,
    conformance::{Failure, Verdict, macros::ensure, pass_over, stays},
};

/// An instance is stopped with its stop signal.
pub async fn an_instance_gets_its_stop_signal(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    if !stage.scheduler.capabilities().stop_signals {
        pass_over(
            "an_instance_gets_its_stop_signal",
            "the scheduler knows SIGTERM alone",
        );
        return Ok(());
    }
    // One that answers has taken its signals in hand; on a busy machine another may have run for a second before it does.
    let mut template = stage.serving("a").await;
    template.stop.signal = "SIGINT".to_owned();
    stage.apply(&[(1, 1, &template)]).await?;
    stage.ready(1).await?;
    let log = stage.listen().await?;
    stage.apply(&[(1, 0, &template)]).await?;
    log.hears("got SIGINT").await?;
    stage.empty().await
}

/// An instance that is stopped has its whole grace to end by itself.
pub async fn an_instance_gets_its_grace(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    let slow = Program::SlowStop(Duration::from_millis(1500));
    let template = stage.template(slow).await;
    stage.apply(&[(1, 1, &template)]).await?;
    stage.ready(1).await?;
    let log = stage.listen().await?;
    stage.apply(&[(1, 0, &template)]).await?;
    log.hears("bye").await?;
    stage.empty().await
}

/// An instance that does not end by itself in its grace is killed, whether it takes notice of the signal or not.
pub async fn an_instance_is_killed_once_its_grace_is_over(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let hour = Duration::from_secs(3600);
    for (name, program) in [
        ("stubborn", Program::IgnoreStop),
        ("slow", Program::SlowStop(hour)),
    ] {
        let mut stage = Stage::of(fixture, name);
        let mut template = stage.template(program).await;
        template.stop.grace_seconds = 1;
        stage.apply(&[(1, 1, &template)]).await?;
        stage.ready(1).await?;
        stage.apply(&[(1, 0, &template)]).await?;
        stage.empty().await?;
        let lines = stage.lines().await?;
        ensure!(
            !lines.iter().any(|line| line == "bye"),
            "it ended by itself: {lines:?}"
        );
    }
    Ok(())
}

/// A process that ends is started again as its restart policy says, with growing delays.
pub async fn a_process_that_ends_is_started_again_with_growing_delays(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    const STARTS: usize = 4;
    let mut stage = Stage::new(fixture);
    let mut template = stage.template(Program::Exit(3)).await;
    template.restart = RestartPolicy::Always;
    stage.apply(&[(1, 1, &template)]).await?;
    let request = LogRequest {
        follow: true,
        ..stage.log_request()
    };
    let starts = stage.scheduler.logs(&request).await?;
    let starts = starts.take(STARTS).collect::<Vec<_>>();
    let starts = tokio::time::timeout(crate::conformance::PATIENCE, starts).await;
    let starts = starts.map_err(|_| Failure::from("its process was not started four times"))?;
    let mut times = Vec::new();
    for line in starts {
        times.push(line?.at);
    }
    ensure!(
        times.is_sorted_by(|one, next| one < next),
        "a line was told twice, or before its time: {times:?}"
    );
    let first = times[1].duration_since(times[0]);
    let last = times[STARTS - 1].duration_since(times[STARTS - 2]);
    ensure!(
        last > first,
        "the delay before the last start, {last:?}, is not above the one before the first restart, {first:?}"
    );
    let instances = stage.status().await?.instances;
    let exit = instances[0].exit.as_ref();
    ensure!(
        exit.is_some_and(|exit| exit.code == Some(3)),
        "how it ended is not told: {instances:?}"
    );
    Ok(())
}

/// A process that keeps ending is in a crash loop.
pub async fn a_process_that_keeps_ending_is_in_a_crash_loop(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    let mut template = stage.template(Program::Exit(0)).await;
    template.restart = RestartPolicy::Always;
    stage.apply(&[(1, 1, &template)]).await?;
    let only = stage.only(InstanceState::CrashLoop).await?;
    ensure!(
        !only.ready && only.restarts > 0 && only.reason.is_some(),
        "a crash loop is not ready, has restarts and a reason: {only:?}"
    );
    Ok(())
}

/// With `OnFailure` a process that fails is started again, and one that exits with 0 stays ended.
pub async fn a_process_restarted_on_failure_alone_may_exit_well(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let (mut well, mut badly) = (Stage::of(fixture, "well"), Stage::of(fixture, "badly"));
    for (stage, code) in [(&mut well, 0), (&mut badly, 1)] {
        let mut template = stage.template(Program::Exit(code)).await;
        template.restart = RestartPolicy::OnFailure;
        stage.apply(&[(1, 1, &template)]).await?;
    }
    let restarted = |status: &WorkloadStatus| status.instances[0].restarts > 0;
    badly
        .until("the failing process was started again", restarted)
        .await?;
    let exited = well.only(InstanceState::Exited).await?;
    ensure!(exited.restarts == 0, "it was started again: {exited:?}");
    Ok(())
}

/// With `Never` an ended process stays exited with its exit, and is not replaced.
pub async fn a_process_that_is_never_restarted_stays_exited(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    let template = stage.template(Program::Exit(7)).await;
    stage.apply(&[(1, 1, &template)]).await?;
    let exited = stage.only(InstanceState::Exited).await?;
    let code = exited.exit.as_ref().and_then(|exit| exit.code);
    ensure!(code == Some(7), "how it ended is not told: {exited:?}");
    stays("the instance stays as it ended", async || {
        Ok(stage.status().await?.instances == [exited.clone()])
    })
    .await?;
    stage.apply(&[(1, 0, &template)]).await?;
    stage.empty().await
}

/// A process above its memory limit is killed, and told as such.
pub async fn a_process_above_its_memory_limit_is_killed_for_it(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    if !stage.scheduler.capabilities().limits {
        pass_over(
            "a_process_above_its_memory_limit_is_killed_for_it",
            "limits do not hold here",
        );
        return Ok(());
    }
    let mut template = stage.template(Program::EatMemory).await;
    template.resources.memory = Some(64 << 20);
    stage.apply(&[(1, 1, &template)]).await?;
    let exited = stage.only(InstanceState::Exited).await?;
    ensure!(
        exited.exit.as_ref().is_some_and(|exit| exit.out_of_memory),
        "it is not told why it was killed: {exited:?}"
    );
    Ok(())
}
