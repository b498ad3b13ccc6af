use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};
use tappaas_core::backend::{InstanceState, LogLine, LogRequest, ReleaseSet};

use super::{SchedulerFixture, Stage};
use crate::{
    Program,
    conformance::{Failure, PATIENCE, Verdict, macros::ensure, name, verdict::same},
};

/// `logs` returns the lines of all instances, also ended ones, in order of time.
pub async fn logs_are_in_order_and_outlive_their_instances(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    let template = stage.template(Program::Exit(0)).await;
    stage.apply(&[(1, 3, &template)]).await?;
    stage
        .until("three processes exited", |status| {
            let mut instances = status.instances.iter();
            status.instances.len() == 3 && instances.all(|i| i.state == InstanceState::Exited)
        })
        .await?;
    if stage.scheduler.capabilities().keeps_logs {
        stage.apply(&[(1, 0, &template)]).await?;
        stage.empty().await?;
    }
    let mut lines = stage.scheduler.logs(&stage.log_request()).await?;
    let (mut times, mut origins) = (Vec::new(), BTreeSet::new());
    while let Some(line) = lines.next().await {
        let line = line?;
        ensure!(line.text == "started", "nobody wrote {line:?}");
        times.push(line.at);
        origins.insert(line.origin);
    }
    ensure!(
        times.len() == 3 && origins.len() == 3,
        "expected a line of each of three instances, got {} of {origins:?}",
        times.len()
    );
    ensure!(
        times.is_sorted(),
        "they are not in order of time: {times:?}"
    );
    Ok(())
}

/// With `follow`, `logs` goes on with later lines.
pub async fn logs_go_on_while_they_are_followed(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    let template = stage.template(Program::Exit(0)).await;
    stage.apply(&[(1, 1, &template)]).await?;
    let request = LogRequest {
        follow: true,
        ..stage.log_request()
    };
    let mut lines = stage.scheduler.logs(&request).await?;
    for count in 1..=2 {
        stage.apply(&[(1, count, &template)]).await?;
        let line = tokio::time::timeout(PATIENCE, lines.next()).await;
        let line = line.map_err(|_| Failure::from(format!("line {count} did not come")))?;
        let line = line.ok_or_else(|| Failure::from("a followed log ended"))??;
        ensure!(line.text == "started", "nobody wrote {line:?}");
    }
    Ok(())
}

/// `logs` chooses by process, release, time and number of lines.
pub async fn logs_are_chosen_by_process_release_and_tail(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut web = Stage::new(fixture);
    if !web.is_stepwise("logs_are_chosen_by_process_release_and_tail") {
        return Ok(());
    }
    let mut worker = Stage::new(fixture);
    worker.id.process = name("worker");
    let template = web.template(Program::Exit(0)).await;
    let set = |release| ReleaseSet {
        release,
        count: 2,
        retiring: BTreeSet::new(),
        template: template.clone(),
    };
    web.apply_sets(vec![set(1), set(2)]).await?;
    worker.apply_sets(vec![set(1)]).await?;
    for (stage, count) in [(&web, 4), (&worker, 2)] {
        let exited = |status: &tappaas_core::backend::WorkloadStatus| {
            let mut instances = status.instances.iter();
            status.instances.len() == count && instances.all(|i| i.state == InstanceState::Exited)
        };
        stage.until("all processes exited", exited).await?;
    }
    let all = web.log_request();
    let everything = LogRequest {
        process: None,
        ..all.clone()
    };
    let first = LogRequest {
        release: Some(1),
        ..all.clone()
    };
    let last = LogRequest {
        tail: Some(3),
        ..all.clone()
    };
    let none = LogRequest {
        tail: Some(0),
        ..all.clone()
    };
    for (request, count) in [(all, 4), (everything, 6), (first, 2), (last, 3), (none, 0)] {
        let lines: Vec<_> = web.scheduler.logs(&request).await?.collect().await;
        ensure!(
            lines.len() == count,
            "expected {count} lines for {request:?}, got {lines:?}"
        );
    }
    let lines = lines(&web, web.log_request()).await?;
    let tail = LogRequest {
        tail: Some(3),
        ..web.log_request()
    };
    same(
        self::lines(&web, tail).await?,
        lines[1..].to_vec(),
        "the last three lines",
    )?;
    let newest = &lines[lines.len() - 1];
    let request = LogRequest {
        since: Some(newest.at),
        ..web.log_request()
    };
    let since = self::lines(&web, request).await?;
    ensure!(
        since.iter().all(|line| line.at >= newest.at) && since.contains(newest),
        "since {} there is {since:?}",
        newest.at
    );
    Ok(())
}

/// `watch` names a workload soon after something about it changed.
pub async fn watch_names_a_workload_that_changed(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    let template = stage.serving("a").await;
    let mut names = stage.scheduler.watch().await?;
    stage.apply(&[(1, 1, &template)]).await?;
    let following = async {
        // Whoever reads again at each name, and only then, comes to see the instance ready.
        while let Some(name) = names.next().await {
            if name == stage.id && stage.status().await?.instances.iter().any(|i| i.ready) {
                return Ok(());
            }
        }
        Err(Failure::from("the watch ended"))
    };
    let late = |_| Err(Failure::from("no name came when the instance became ready"));
    tokio::time::timeout(PATIENCE, following)
        .await
        .unwrap_or_else(late)
}

async fn lines(stage: &Stage<'_>, request: LogRequest) -> Result<Vec<LogLine>, Failure> {
    let lines = stage.scheduler.logs(&request).await?;
    Ok(lines.try_collect().await?)
}
