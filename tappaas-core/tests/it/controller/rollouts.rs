use std::{collections::BTreeMap, time::Duration};

use tappaas_core::{
    memory::Behaviour,
    model::{EnvValue, OperationState, Phase, ReleasePhase},
};

use super::world::{World, content, key, name};

#[tokio::test(start_paused = true)]
async fn a_deployed_application_answers_at_its_host() {
    let world = World::new().await;
    let operation = world.healthy("web", content("v1"), 1).await;
    assert_eq!(operation.status.release, Some(1));
    let answer = world.ingress.request("web.localhost", "/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "1 /"));
    let application = world.settled("web").await;
    assert_eq!(application.status.phase, Phase::Running);
    assert_eq!(application.status.current, Some(1));
}

#[tokio::test(start_paused = true)]
async fn no_request_is_lost_while_a_release_replaces_another() {
    let world = World::new().await;
    for source in ["v1", "v2"] {
        let slow = Behaviour {
            latency: Duration::from_secs(3),
            ..Behaviour::listening_after(Duration::from_secs(2))
        };
        world.behave(source, slow);
    }
    world.healthy("web", content("v1"), 3).await;
    world.settled("web").await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load: Vec<_> = (0..20)
        .map(|i| {
            let (ingress, stopped) = (world.ingress.clone(), stopped.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(37 * i)).await;
                let mut answers = BTreeMap::<String, u32>::new();
                while !*stopped.borrow() {
                    let answer = ingress.request("web.localhost", "/").await;
                    *answers
                        .entry(format!("{} {}", answer.status, answer.body))
                        .or_default() += 1;
                }
                answers
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.healthy("web", content("v2"), 3).await;
    world.settled("web").await;
    stop.send(true).unwrap();
    let mut answers = BTreeMap::<String, u32>::new();
    for task in load {
        for (answer, count) in task.await.unwrap() {
            *answers.entry(answer).or_default() += count;
        }
    }
    let kinds: Vec<&str> = answers.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["200 1 /", "200 2 /"], "{answers:?}");
    assert_eq!(world.counts("web").await, BTreeMap::from([(2, 3)]));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_stays_within_surge_and_scale() {
    let world = World::new().await;
    world.behave("v2", Behaviour::listening_after(Duration::from_secs(1)));
    world.healthy("web", content("v1"), 4).await;
    world.settled("web").await;
    let accepted = world.deploy("web", content("v2"), 4).await;
    let mut seen = Vec::new();
    let operation = accepted.operation.unwrap();
    let client = world.platform.client();
    loop {
        let counts = world.counts("web").await;
        let total: u32 = counts.values().sum();
        assert!((4..=5).contains(&total), "{counts:?}");
        if seen.last() != Some(&counts) {
            seen.push(counts.clone());
        }
        let ended = client
            .get::<tappaas_core::model::OperationSpec>(&key("web").scope(), &operation)
            .unwrap()
            .unwrap();
        if ended.status.state.ended() && counts == BTreeMap::from([(2, 4)]) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(seen.len() >= 5, "one step at a time: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn scaling_makes_no_release_and_drains_what_goes() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    for count in [3, 1, 0] {
        let accepted = world
            .platform
            .scale(&key("web"), BTreeMap::from([(name("web"), count)]))
            .await
            .unwrap();
        let operation = world.ended(&accepted).await;
        assert_eq!(operation.status.state, OperationState::Succeeded);
        world.settled("web").await;
        let running = world
            .workload("web", "web")
            .await
            .map_or(0, |status| status.instances.len());
        assert_eq!(running, count as usize);
    }
    assert_eq!(world.releases("web").len(), 1);
    assert_eq!(
        world.ingress.request("web.localhost", "/").await.status,
        503
    );
}

#[tokio::test(start_paused = true)]
async fn rolling_back_brings_content_and_configuration_back_and_keeps_the_scale() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    let set = BTreeMap::from([("COLOR".to_owned(), EnvValue::new("blue"))]);
    world
        .ended(
            &world
                .platform
                .configure(&key("web"), set, Vec::new())
                .await
                .unwrap(),
        )
        .await;
    world.healthy("web", content("v3"), 1).await;
    let application = world.application("web").unwrap();
    assert_eq!(
        application.spec.content.config.len(),
        1,
        "a deployment keeps what was set"
    );
    world
        .ended(
            &world
                .platform
                .scale(&key("web"), BTreeMap::from([(name("web"), 2)]))
                .await
                .unwrap(),
        )
        .await;

    let accepted = world.platform.rollback(&key("web"), Some(1)).await.unwrap();
    let operation = world.ended(&accepted).await;
    assert_eq!(
        operation.status.state,
        OperationState::Succeeded,
        "{}",
        operation.status.message
    );
    assert_eq!(operation.status.release, Some(4));
    let application = world.settled("web").await;
    assert!(application.spec.content.config.is_empty());
    assert_eq!(application.spec.scale[&name("web")], 2);
    let release = &world.releases("web")[3];
    assert_eq!(
        (release.spec.rollback, &release.spec.image.digest),
        (Some(1), &super::world::image("v1").digest)
    );
    assert_eq!(world.counts("web").await, BTreeMap::from([(4, 2)]));
}

#[tokio::test(start_paused = true)]
async fn restarting_replaces_every_instance_by_the_same_content() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 2).await;
    let before = world.workload("web", "web").await.unwrap();
    let accepted = world.platform.restart(&key("web")).await.unwrap();
    assert_eq!(
        world.ended(&accepted).await.status.state,
        OperationState::Succeeded
    );
    world.settled("web").await;
    let after = world.workload("web", "web").await.unwrap();
    assert!(
        after
            .instances
            .iter()
            .all(|new| before.instances.iter().all(|old| old.id != new.id))
    );
    let unchanged = world.deploy("web", content("v1"), 2).await;
    assert_eq!(
        unchanged.operation, None,
        "the same content again is nothing to do"
    );
}

#[tokio::test(start_paused = true)]
async fn a_newer_request_supersedes_a_running_rollout() {
    let world = World::new().await;
    world.behave("v1", Behaviour::never_listening());
    let first = world.deploy("web", content("v1"), 1).await;
    world
        .until("the first release rolls out", || {
            world
                .releases("web")
                .first()
                .filter(|release| release.status.phase == ReleasePhase::RollingOut)
                .cloned()
        })
        .await;
    let second = world.deploy("web", content("v2"), 1).await;
    let first = world.ended(&first).await;
    assert_eq!(first.status.state, OperationState::Superseded);
    assert_eq!(first.status.message, "superseded by release 2");
    assert_eq!(
        world.ended(&second).await.status.state,
        OperationState::Succeeded
    );
}

#[tokio::test(start_paused = true)]
async fn destroying_leaves_nothing_but_volumes() {
    let world = World::new().await;
    let mut wanted = content("v1");
    let volume = tappaas_core::model::VolumeMount {
        path: "/data".into(),
        size: None,
        process: name("web"),
    };
    wanted.volumes.insert(name("data"), volume);
    world.healthy("web", wanted, 1).await;
    let accepted = world.platform.destroy(&key("web")).await.unwrap();
    assert_eq!(
        world.ended(&accepted).await.status.state,
        OperationState::Succeeded
    );
    let backends = world.platform.backends();
    assert_eq!(backends.scheduler.list().await.unwrap(), []);
    assert_eq!(backends.ingress.list().await.unwrap(), []);
    assert_eq!(backends.volumes.list().await.unwrap().len(), 1);
    assert!(world.releases("web").is_empty());
    assert_eq!(
        world.ingress.request("web.localhost", "/").await.status,
        404
    );
    world.healthy("web", content("v2"), 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_with_a_volume_stops_before_the_next_starts() {
    let world = World::new().await;
    let with_volume = |source| {
        let mut wanted = content(source);
        let volume = tappaas_core::model::VolumeMount {
            path: "/data".into(),
            size: None,
            process: name("web"),
        };
        wanted.volumes.insert(name("data"), volume);
        wanted
    };
    world.healthy("web", with_volume("v1"), 1).await;
    let accepted = world.deploy("web", with_volume("v2"), 1).await;
    let id = accepted.operation.clone().unwrap();
    loop {
        let instances = world
            .workload("web", "web")
            .await
            .map_or(0, |status| status.instances.len());
        assert!(instances <= 1, "two instances hold the volume");
        let client = world.platform.client();
        let operation = client
            .get::<tappaas_core::model::OperationSpec>(&key("web").scope(), &id)
            .unwrap()
            .unwrap();
        if operation.status.state.ended() {
            assert_eq!(
                operation.status.state,
                OperationState::Succeeded,
                "{}",
                operation.status.message
            );
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
