//! Release commands: once each, one at a time, and over once they are judged.

use std::time::Duration;

use futures::StreamExt as _;
use tappaas_core::{
    backend::{LogRequest, Scheduler as _},
    memory::{Behaviour, End},
    model::{ApplicationContent, Command, OperationState, ReleasePhase},
};

use super::world::{World, content, key, name};

/// Content whose releases run this command first.
fn commanded(source: &str, command: &str) -> ApplicationContent {
    let mut wanted = content(source);
    wanted.release_command = Some(Command::Shell(command.to_owned()));
    wanted
}

/// Says how a release command behaves, which tells in its output that it runs.
fn behave(world: &World, command: &str, behaviour: Behaviour) {
    let loud = Behaviour {
        output: vec![format!("{command} runs")],
        ..behaviour
    };
    let command = Command::Shell(command.to_owned());
    world.scheduler.behave_by_command(command, loud);
}

/// What the release command of a release wrote.
async fn written(world: &World, release: u64) -> Vec<String> {
    let request = LogRequest {
        application: key("web"),
        process: Some(name("release")),
        release: Some(release),
        since: None,
        tail: None,
        follow: false,
    };
    let lines = world.scheduler.logs(&request).await.unwrap();
    lines.map(|line| line.unwrap().text).collect().await
}

/// The releases of which a release command is left.
async fn running(world: &World) -> Vec<u64> {
    let workload = world.workload("web", "release").await;
    let instances = workload.into_iter().flat_map(|status| status.instances);
    instances.map(|instance| instance.release).collect()
}

#[tokio::test(start_paused = true)]
async fn a_release_command_runs_once_and_its_failure_refuses_the_release() {
    let world = World::new().await;
    behave(&world, "migrate", Behaviour::exiting(0));
    behave(&world, "explode", Behaviour::exiting(9));
    world.healthy("web", commanded("v1", "migrate"), 1).await;
    let operation = world.deployed("web", commanded("v2", "explode"), 1).await;
    assert_eq!(
        operation.status.message,
        "release 2 failed: the release command exited with code 9"
    );
    let application = world.settled("web").await;
    assert_eq!(application.status.current, Some(1));
    let releases = world.releases("web");
    assert_eq!(
        (releases[0].status.command, releases[1].status.phase),
        (Some(true), ReleasePhase::Failed)
    );
    assert_eq!(written(&world, 1).await, ["migrate runs"]);
    assert_eq!(written(&world, 2).await, ["explode runs"]);
    assert_eq!(running(&world).await, [] as [u64; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_release_command_starts_once_that_of_the_release_before_has_stopped() {
    let world = World::new().await;
    let slow = Behaviour {
        stop: Some(Duration::from_secs(5)),
        ..Behaviour::never_listening()
    };
    let short = Behaviour {
        end: Some((Duration::from_secs(1), End::Code(0))),
        ..Behaviour::never_listening()
    };
    behave(&world, "migrate slowly", slow);
    behave(&world, "migrate", short);
    let first = world
        .deploy("web", commanded("v1", "migrate slowly"), 1)
        .await;
    while running(&world).await != [1] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = world.deploy("web", commanded("v2", "migrate"), 1).await;
    let operation = |accepted: &tappaas_core::platform::Accepted| {
        let id = accepted.operation.clone().unwrap();
        world.platform.operation(&key("web").scope(), &id).unwrap()
    };
    while !operation(&second).status.state.ended() {
        let running = running(&world).await;
        assert!(running.len() <= 1, "two at the same time: {running:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(operation(&second).status.state, OperationState::Succeeded);
    assert_eq!(operation(&first).status.state, OperationState::Superseded);
    assert_eq!(written(&world, 2).await, ["migrate runs"]);
}

#[tokio::test(start_paused = true)]
async fn a_release_command_that_hangs_ends_with_its_release() {
    let world = World::new().await;
    behave(&world, "hang", Behaviour::never_listening());
    let operation = world.deployed("web", commanded("v1", "hang"), 1).await;
    assert_eq!(
        operation.status.message,
        "release 1 failed: the release command did not end within 60 s"
    );
    world.settled("web").await;
    assert_eq!(running(&world).await, [] as [u64; 0]);
    assert!(written(&world, 1).await.contains(&"hang runs".to_owned()));

    let superseded = world.deploy("web", commanded("v2", "hang"), 1).await;
    while running(&world).await != [2] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.healthy("web", content("v3"), 1).await;
    let superseded = world.ended(&superseded).await;
    assert_eq!(superseded.status.state, OperationState::Superseded);
    world.settled("web").await;
    assert_eq!(running(&world).await, [] as [u64; 0]);
}
