use std::collections::BTreeSet;

use tappaas_core::{
    ErrorKind,
    backend::{InstanceId, InstanceState, Mount, ReleaseSet, Template, Workload, WorkloadStatus},
    model::{EnvValue, Limits},
};

use super::{SchedulerFixture, Stage};
use crate::{
    Program,
    conformance::{
        Failure, Verdict, macros::ensure, name, pass_over, stays, until, verdict::refused,
    },
};

/// `apply` is idempotent: the same workload with the same generation changes nothing.
pub async fn a_generation_applied_again_changes_nothing(fixture: &dyn SchedulerFixture) -> Verdict {
    let stage = Stage::new(fixture);
    let workload = workload(&stage, 1, 1, stage.serving("a").await);
    stage.scheduler.apply(&workload).await?;
    let before = stage.ready(1).await?;
    stage.scheduler.apply(&workload).await?;
    stays("the instance is the same", async || {
        let now = stage.status().await?.instances;
        Ok(ids(&now) == ids(&before) && now[0].restarts == before[0].restarts)
    })
    .await
}

/// `apply` refuses a generation lower than the last one it took with `Conflict`.
pub async fn an_older_generation_is_refused(fixture: &dyn SchedulerFixture) -> Verdict {
    let stage = Stage::new(fixture);
    let template = stage.template(Program::Idle).await;
    let newer = workload(&stage, 2, 1, template.clone());
    stage.scheduler.apply(&newer).await?;
    let older = workload(&stage, 1, 2, template);
    let answer = stage.scheduler.apply(&older).await;
    refused(answer, ErrorKind::Conflict, "generation 1 after 2")?;
    let status = stage.status().await?;
    ensure!(
        status.generation == 2 && status.counts[&1] == 1,
        "the refused workload was taken: {status:?}"
    );
    Ok(())
}

/// `apply` refuses the same generation with other content with `Conflict`.
pub async fn a_generation_with_other_content_is_refused(fixture: &dyn SchedulerFixture) -> Verdict {
    let stage = Stage::new(fixture);
    let template = stage.template(Program::Idle).await;
    let one = workload(&stage, 1, 1, template.clone());
    stage.scheduler.apply(&one).await?;
    let other = workload(&stage, 1, 2, template);
    let answer = stage.scheduler.apply(&other).await;
    refused(
        answer,
        ErrorKind::Conflict,
        "generation 1 with another count",
    )?;
    let status = stage.status().await?;
    ensure!(
        status.counts[&1] == 1,
        "the refused workload was taken: {status:?}"
    );
    Ok(())
}

/// As soon as `apply` returned, `observe` reports the new generation, content and counts.
pub async fn the_new_generation_and_counts_are_seen_once_apply_returned(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let stage = Stage::new(fixture);
    let template = stage.template(Program::Idle).await;
    for (generation, count) in [(1, 2), (7, 1)] {
        let workload = workload(&stage, generation, count, template.clone());
        stage.scheduler.apply(&workload).await?;
        let status = stage.status().await?;
        ensure!(
            status.generation == generation
                && status.content == workload.content()
                && status.counts.iter().eq([(&1, &count)]),
            "generation {generation} is not what is observed: {status:?}"
        );
    }
    Ok(())
}

/// As soon as `apply` returned, `observe` reports the instances that have to go as stopping.
pub async fn instances_that_have_to_go_are_stopping_once_apply_returned(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    let template = stage.serving("a").await;
    stage.apply(&[(1, 2, &template)]).await?;
    stage.ready(2).await?;
    stage.apply(&[(1, 1, &template)]).await?;
    let instances = stage.status().await?.instances;
    let staying = instances
        .iter()
        .filter(|instance| instance.state != InstanceState::Stopping);
    ensure!(
        staying.count() == 1,
        "one instance has to go: {instances:?}"
    );
    let going = instances
        .iter()
        .find(|instance| instance.state == InstanceState::Stopping);
    ensure!(
        going.is_none_or(|going| !going.ready),
        "a stopping instance is ready: {going:?}"
    );
    stage.ready(1).await?;
    Ok(())
}

/// What cannot be placed is a value with reasons, never an error.
pub async fn what_cannot_be_placed_is_a_value_with_reasons(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    let mut template = stage.template(Program::Idle).await;
    let label = ("conformance".to_owned(), "nowhere".to_owned());
    template.placement.node_labels.extend([label]);
    stage.apply(&[(3, 2, &template)]).await?;
    let status = stage
        .until("two instances are unplaced", |status| {
            status.unplaced.iter().map(|it| it.missing).sum::<u32>() == 2
        })
        .await?;
    let [unplaced] = status.unplaced.as_slice() else {
        return Err(Failure::from(format!(
            "expected one entry: {:?}",
            status.unplaced
        )));
    };
    ensure!(
        (unplaced.release, unplaced.missing) == (3, 2) && !unplaced.reasons.is_empty(),
        "expected two of release 3 with reasons: {unplaced:?}"
    );
    Ok(())
}

/// When a release's count falls, the instances named in `retiring` stop first; the others stay untouched.
pub async fn retiring_instances_stop_first_and_the_others_stay(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    if !stage.is_stepwise("retiring_instances_stop_first_and_the_others_stay") {
        return Ok(());
    }
    let template = stage.serving("a").await;
    stage.apply(&[(1, 3, &template)]).await?;
    let before = stage.ready(3).await?;
    for chosen in [1, 0] {
        let now = stage.ready(chosen + 2).await?;
        let retiring = BTreeSet::from([now[chosen].id.clone()]);
        let staying: Vec<_> = now
            .iter()
            .filter(|instance| !retiring.contains(&instance.id))
            .collect();
        let set = ReleaseSet {
            release: 1,
            count: staying.len() as u32,
            retiring,
            template: template.clone(),
        };
        stage.apply_sets(vec![set]).await?;
        let left = stage.ready(chosen + 1).await?;
        ensure!(
            left.iter()
                .map(|instance| &instance.id)
                .eq(staying.iter().map(|instance| &instance.id)),
            "of {now:?} the wrong one went: {left:?}"
        );
        ensure!(
            left.iter().all(|instance| instance.restarts == 0),
            "an instance was touched: {left:?}"
        );
    }
    ensure!(
        before[2].id == stage.ready(1).await?[0].id,
        "the instance never named is gone"
    );
    Ok(())
}

/// `apply` never restarts an instance that stays, not even when a release's template changed.
pub async fn apply_never_restarts_an_instance_that_stays(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    if !stage.is_stepwise("apply_never_restarts_an_instance_that_stays") {
        return Ok(());
    }
    let mut template = stage.serving("a").await;
    stage.apply(&[(1, 1, &template)]).await?;
    let before = stage.ready(1).await?;
    template
        .environment
        .insert("NEW".to_owned(), EnvValue::new("value"));
    stage.apply(&[(1, 2, &template)]).await?;
    let after = stage.ready(2).await?;
    ensure!(
        after[0].id == before[0].id && after[0].restarts == 0,
        "the instance did not stay: {after:?}"
    );
    Ok(())
}

/// Several releases of one workload run side by side with exactly the counts asked for.
pub async fn releases_run_side_by_side_with_the_counts_asked_for(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    if !stage.is_stepwise("releases_run_side_by_side_with_the_counts_asked_for") {
        return Ok(());
    }
    let (old, new) = (stage.serving("old").await, stage.serving("new").await);
    for (olds, news) in [(2, 0), (2, 1), (1, 2), (0, 2), (1, 2)] {
        stage.apply(&[(4, olds, &old), (5, news, &new)]).await?;
        let count = |instances: &WorkloadStatus, release| {
            let instances = instances.instances.iter();
            instances
                .filter(|i| i.release == release && i.ready)
                .count() as u32
        };
        let whole = |status: &WorkloadStatus| {
            status.instances.len() as u32 == olds + news
                && (count(status, 4), count(status, 5)) == (olds, news)
        };
        stage.until("the counts are as asked for", whole).await?;
    }
    Ok(())
}

/// `observe` of a workload never applied, or removed, returns `None`.
pub async fn observe_of_an_unknown_workload_is_none(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    let never = stage.scheduler.observe(&stage.id).await?;
    ensure!(
        never.is_none(),
        "a workload never applied is observed: {never:?}"
    );
    let template = stage.template(Program::Idle).await;
    stage.apply(&[(1, 1, &template)]).await?;
    stage.scheduler.remove(&stage.id).await?;
    let removed = stage.scheduler.observe(&stage.id).await?;
    ensure!(
        removed.is_none(),
        "a removed workload is observed: {removed:?}"
    );
    Ok(())
}

/// `remove` of an unknown workload succeeds; afterwards, in a while, nothing of the workload is left.
pub async fn remove_leaves_nothing_and_may_be_repeated(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    stage.scheduler.remove(&stage.id).await?;
    let template = stage.serving("a").await;
    stage.apply(&[(1, 2, &template)]).await?;
    let instances = stage.ready(2).await?;
    stage.scheduler.remove(&stage.id).await?;
    stage.scheduler.remove(&stage.id).await?;
    until("nothing is left", async || {
        Ok(stage.scheduler.list().await?.is_empty().then_some(()))
    })
    .await?;
    for endpoint in instances
        .iter()
        .flat_map(|instance| instance.endpoints.values())
    {
        let answer = fixture.get(endpoint, "/").await;
        ensure!(answer.is_err(), "{endpoint:?} still answers {answer:?}");
    }
    stage.scheduler.remove(&stage.id).await?;
    Ok(())
}

/// `prepare` makes what an environment needs, and names its namespace, if there are such; again it changes nothing.
pub async fn an_environment_is_prepared_once(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    let environment = stage.id.application.scope();
    let first = stage
        .scheduler
        .prepare(&environment, &Limits::default())
        .await?;
    let again = stage
        .scheduler
        .prepare(&environment, &Limits::default())
        .await?;
    ensure!(first == again, "{first:?} was {again:?} the second time");
    let template = stage.serving("a").await;
    stage.apply(&[(1, 1, &template)]).await?;
    stage.ready(1).await?;
    let then = stage
        .scheduler
        .prepare(&environment, &Limits::default())
        .await?;
    ensure!(first == then, "{first:?} became {then:?}");
    stage.ready(1).await?;
    Ok(())
}

/// `discard` removes all that `prepare` made; of an unknown environment it succeeds.
pub async fn a_discarded_environment_leaves_nothing(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    // No other case's, which may have left something, or be under way.
    stage.id.application.environment = name("discarded");
    let scheduler = stage.scheduler.clone();
    let environment = stage.id.application.scope();
    scheduler.discard(&environment).await?;
    scheduler.prepare(&environment, &Limits::default()).await?;
    let template = stage.serving("a").await;
    stage.apply(&[(1, 1, &template)]).await?;
    stage.ready(1).await?;
    scheduler.remove(&stage.id).await?;
    let gone = async || match scheduler.discard(&environment).await {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind().retryable() => Ok(None),
        Err(error) => Err(error.into()),
    };
    until("the environment is discarded", gone).await?;
    until("nothing is left", async || {
        Ok(scheduler.list().await?.is_empty().then_some(()))
    })
    .await?;
    scheduler.discard(&environment).await?;
    Ok(())
}

/// `list` returns every workload that something is left of.
pub async fn list_names_what_something_is_left_of(fixture: &dyn SchedulerFixture) -> Verdict {
    let (mut one, mut other) = (Stage::of(fixture, "one"), Stage::of(fixture, "other"));
    let mut stubborn = one.template(Program::IgnoreStop).await;
    stubborn.stop.grace_seconds = 5;
    one.apply(&[(1, 1, &stubborn)]).await?;
    one.ready(1).await?;
    other.apply(&[(1, 0, &stubborn)]).await?;
    let mut listed = one.scheduler.list().await?;
    listed.sort();
    ensure!(
        listed == [one.id.clone(), other.id.clone()],
        "not all are listed: {listed:?}"
    );
    one.scheduler.remove(&one.id).await?;
    let listed = one.scheduler.list().await?;
    ensure!(
        listed.contains(&one.id),
        "its instance ignores the stop signal and is there, but {listed:?}"
    );
    Ok(())
}

/// A volume mounted for writing is held by one instance at a time; the next one waits for it.
pub async fn a_volume_for_writing_is_held_by_one_instance_at_a_time(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let Some(volume) = fixture.volume().await else {
        pass_over(
            "a_volume_for_writing_is_held_by_one_instance_at_a_time",
            "the fixture has no volumes",
        );
        return Ok(());
    };
    let mut stage = Stage::new(fixture);
    let mut template = stage.serving("a").await;
    template.mounts.push(Mount {
        volume,
        path: "/data".into(),
        read_only: false,
    });
    stage.apply(&[(1, 2, &template)]).await?;
    let one_ready =
        |status: &WorkloadStatus| status.instances.iter().any(|instance| instance.ready);
    let first = stage
        .until("one instance is ready", one_ready)
        .await?
        .instances;
    stays("one alone is ready, and the other says why", async || {
        let instances = stage.status().await?.instances;
        let waiting = instances.iter().find(|instance| !instance.ready);
        Ok(waiting.is_some_and(|waiting| waiting.state == InstanceState::Starting))
    })
    .await?;
    let holder = first
        .iter()
        .find(|instance| instance.ready)
        .map(|holder| holder.id.clone());
    let set = ReleaseSet {
        release: 1,
        count: 1,
        retiring: holder.clone().into_iter().collect(),
        template,
    };
    stage.apply_sets(vec![set]).await?;
    let left = stage.ready(1).await?;
    // Who rolls by itself chooses by itself which one goes; the one that is left has the volume all the same.
    ensure!(
        Some(&left[0].id) != holder.as_ref() || !stage.scheduler.capabilities().stepwise,
        "the wrong instance went"
    );
    Ok(())
}

fn workload(stage: &Stage<'_>, generation: u64, count: u32, template: Template) -> Workload {
    Workload {
        id: stage.id.clone(),
        generation,
        releases: vec![ReleaseSet {
            release: 1,
            count,
            retiring: BTreeSet::new(),
            template,
        }],
        rollout: stage.rollout(),
        autoscale: None,
    }
}

fn ids(instances: &[tappaas_core::backend::InstanceStatus]) -> Vec<&InstanceId> {
    instances.iter().map(|instance| &instance.id).collect()
}
