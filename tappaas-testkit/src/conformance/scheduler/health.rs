use std::time::Duration;

use tappaas_core::{
    backend::{InstanceState, WorkloadStatus},
    model::{Command, Probe, ProbeCheck, RestartPolicy},
};

use super::{SchedulerFixture, Stage, stage::with_port};
use crate::{
    Program,
    conformance::{Failure, Verdict, macros::ensure, pass_over, stays, until},
};

/// How long a process without a port must have run to be ready.
const RUNS: Duration = Duration::from_secs(1);

/// An instance is ready only while its process runs and its readiness probe succeeds.
pub async fn an_instance_is_ready_only_while_its_readiness_probe_succeeds(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    let mut template = stage.serving("a").await;
    template.probes.readiness = Some(file_probe("/tmp/ready"));
    stage.apply(&[(1, 1, &template)]).await?;
    let instance = stage.only(InstanceState::Running).await?.id;
    stays("the instance is not ready and says why", async || {
        let status = stage.status().await?;
        let only = &status.instances[0];
        Ok(!only.ready && only.reason.is_some())
    })
    .await?;
    stage
        .exec_in(Some(&instance), &["tee", "/tmp/ready"], "yes")
        .await?;
    stage.ready(1).await?;
    stage
        .exec_in(Some(&instance), &["rm", "/tmp/ready"], "")
        .await?;
    let unready = |status: &WorkloadStatus| status.instances.iter().all(|instance| !instance.ready);
    let status = stage
        .until("the instance is no longer ready", unready)
        .await?;
    ensure!(
        status.instances[0].restarts == 0,
        "a readiness probe must not restart anything: {status:?}"
    );
    Ok(())
}

/// Without a probe an instance is ready only while a connection to its first port succeeds.
pub async fn an_instance_that_does_not_listen_is_never_ready(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    let template = with_port(stage.template(Program::Idle).await, 8080, true);
    stage.apply(&[(1, 1, &template)]).await?;
    stage.only(InstanceState::Running).await?;
    let says_why = |status: &WorkloadStatus| status.instances[0].reason.is_some();
    stage
        .until("the instance says why it is not ready", says_why)
        .await?;
    stays("the instance is not ready", async || {
        Ok(!stage.status().await?.instances[0].ready)
    })
    .await
}

/// Without a probe and without a port an instance is ready once it has run for a second.
pub async fn an_instance_without_a_port_is_ready_once_it_has_run_for_a_second(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    let idle = stage.template(Program::Idle).await;
    let begun = tokio::time::Instant::now();
    stage.apply(&[(1, 1, &idle)]).await?;
    stage.ready(1).await?;
    let ran = begun.elapsed();
    ensure!(ran >= RUNS, "it was ready after {ran:?}");
    let mut ending = Stage::of(fixture, "ending");
    let exit = ending.template(Program::Exit(0)).await;
    ending.apply(&[(1, 1, &exit)]).await?;
    until("the process that exits at once exited", async || {
        let status = ending.status().await?;
        let [only] = status.instances.as_slice() else {
            return Ok(None);
        };
        ensure!(
            !only.ready,
            "it was ready, although it exits at once: {only:?}"
        );
        Ok((only.state == InstanceState::Exited).then_some(()))
    })
    .await
}

/// A process that fails its liveness probe is started again.
pub async fn a_process_that_fails_its_liveness_probe_is_started_again(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    let mut template = stage.serving("a").await;
    template.restart = RestartPolicy::Always;
    template.stop.grace_seconds = 1;
    let probe = file_probe("/tmp/alive");
    template.probes.liveness = Some(Probe {
        delay_seconds: 3,
        failures: 2,
        ..probe
    });
    stage.apply(&[(1, 1, &template)]).await?;
    let first = stage.ready(1).await?;
    let restarted = |status: &WorkloadStatus| status.instances[0].restarts > 0;
    let status = stage
        .until("its process was started again", restarted)
        .await?;
    ensure!(
        status.instances[0].id == first[0].id,
        "it is another instance: {status:?}"
    );
    Ok(())
}

/// A ready instance has an endpoint for each of its ports, and a request to that endpoint reaches that instance.
pub async fn a_request_to_an_endpoint_reaches_its_instance(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let (mut one, mut other) = (Stage::of(fixture, "one"), Stage::of(fixture, "other"));
    let (template, other_template) = (one.serving("one").await, other.serving("other").await);
    one.apply(&[(1, 2, &template)]).await?;
    other.apply(&[(1, 1, &other_template)]).await?;
    for (stage, name, count) in [(&one, "one", 2), (&other, "other", 1)] {
        for instance in stage.ready(count).await? {
            let port = &template.ports[0].name;
            let together = stage.status().await?.endpoints;
            let endpoint = instance.endpoints.get(port).or_else(|| together.get(port));
            let endpoint = endpoint.ok_or_else(|| {
                Failure::from(format!("a ready instance has no endpoint: {instance:?}"))
            })?;
            let body = fixture.get(endpoint, "/some/path").await?;
            ensure!(
                body == format!("{name} /some/path"),
                "{name}'s endpoint {endpoint:?} answered `{body}`"
            );
        }
    }
    Ok(())
}

/// If no port is declared and the process listens on exactly one other, that one is used and told.
pub async fn the_only_port_listened_on_replaces_an_undeclared_one(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    if !stage.scheduler.capabilities().finds_ports {
        pass_over(
            "the_only_port_listened_on_replaces_an_undeclared_one",
            "the scheduler finds no ports",
        );
        return Ok(());
    }
    let elsewhere = stage.template(Program::ServeElsewhere(9898)).await;
    let template = with_port(elsewhere, 8080, false);
    stage.apply(&[(1, 1, &template)]).await?;
    let instance = stage.ready(1).await?.remove(0);
    ensure!(
        instance.found_port == Some(9898),
        "the port found is not told: {instance:?}"
    );
    let endpoint = &instance.endpoints[&template.ports[0].name];
    let body = fixture.get(endpoint, "/").await?;
    ensure!(body == "found /", "{endpoint:?} answered `{body}`");
    Ok(())
}

/// A declared port is never replaced by another one that the process listens on.
pub async fn a_declared_port_is_never_replaced(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    let elsewhere = stage.template(Program::ServeElsewhere(9898)).await;
    let template = with_port(elsewhere, 8080, true);
    stage.apply(&[(1, 1, &template)]).await?;
    stage.only(InstanceState::Running).await?;
    stays("the instance is not ready", async || {
        let only = &stage.status().await?.instances[0];
        Ok(!only.ready && only.found_port.is_none())
    })
    .await
}

/// A probe that succeeds while a file is there.
fn file_probe(path: &str) -> Probe {
    let command = Command::Exec(vec!["cat".to_owned(), path.to_owned()]);
    Probe {
        period_seconds: 1,
        failures: 1,
        ..Probe::new(ProbeCheck::Exec { command })
    }
}
