use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt as _;
use tappaas_core::{
    ErrorKind,
    backend::{LogRequest, Scheduler as _},
    memory::{Behaviour, End},
    model::{ApplicationContent, OperationState, Phase, Process, RouteSpec, Runtime},
    platform::Deployment,
};

use super::world::{World, content, key, name};

/// Content whose process `web` has a memory limit.
fn limited(source: &str) -> ApplicationContent {
    let mut wanted = content(source);
    let mut web = Process::default();
    web.resources.memory = Some(64 << 20);
    wanted.processes.insert(name("web"), web);
    wanted
}

/// Deploys something good, then something bad: the bad one is refused with this reason, and the good one goes on untouched.
async fn refuses(source: &str, behaviour: Behaviour, reason: &str) {
    let world = World::new().await;
    world.behave(source, behaviour);
    world.healthy("web", limited("v1"), 2).await;
    world.settled("web").await;
    let before = world.workload("web", "web").await.unwrap();

    let operation = world.deployed("web", limited(source), 2).await;
    assert_eq!(operation.status.state, OperationState::Failed);
    let message = &operation.status.message;
    assert!(
        message.contains(reason),
        "`{message}` does not say `{reason}`"
    );

    let application = world.settled("web").await;
    assert_eq!(
        (application.status.phase, application.status.current),
        (Phase::Failed, Some(1))
    );
    assert_eq!(world.counts("web").await, BTreeMap::from([(1, 2)]));
    let after = world.workload("web", "web").await.unwrap();
    let ids = |status: &tappaas_core::backend::WorkloadStatus| {
        status
            .instances
            .iter()
            .map(|i| i.id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&before), ids(&after), "the old release is touched");
    assert_eq!(
        world.ingress.request("web.localhost", "/").await.body,
        "1 /"
    );
}

#[tokio::test(start_paused = true)]
async fn a_release_that_never_listens_is_refused() {
    refuses(
        "bad",
        Behaviour::never_listening(),
        "not healthy within 60 s",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_crashes_is_refused() {
    refuses("bad", Behaviour::exiting(3), "exited with code 3").await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_exits_well_is_refused_too() {
    refuses("bad", Behaviour::exiting(0), "but it should keep running").await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_exceeds_its_memory_is_refused() {
    refuses(
        "bad",
        Behaviour::eating_memory(),
        "exceeded its memory limit",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_killed_is_refused() {
    let killed = Behaviour {
        end: Some((Duration::from_millis(10), End::Signal(11))),
        ..Behaviour::never_listening()
    };
    refuses("bad", killed, "was killed by signal 11").await;
}

#[tokio::test(start_paused = true)]
async fn what_a_refused_first_release_wrote_stays_readable() {
    let world = World::new().await;
    let loud = Behaviour {
        output: vec!["cannot find the database".to_owned()],
        ..Behaviour::exiting(1)
    };
    world.behave("v1", loud);
    let operation = world.deployed("web", content("v1"), 1).await;
    assert_eq!(operation.status.state, OperationState::Failed);
    let application = world.settled("web").await;
    assert_eq!(
        (application.status.current, world.counts("web").await.len()),
        (None, 0)
    );
    let request = LogRequest {
        application: key("web"),
        process: None,
        release: Some(1),
        since: None,
        tail: None,
        follow: false,
    };
    let lines = world.scheduler.logs(&request).await.unwrap();
    let lines: Vec<_> = lines.map(|line| line.unwrap().text).collect().await;
    assert!(
        lines.contains(&"cannot find the database".to_owned()),
        "{lines:?}"
    );
    assert_eq!(
        world.ingress.request("web.localhost", "/").await.status,
        404
    );
}

#[tokio::test(start_paused = true)]
async fn a_build_that_fails_is_refused_with_its_reason() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    let operation = world.deployed("web", content("broken"), 1).await;
    assert_eq!(operation.status.state, OperationState::Failed);
    assert!(
        operation.status.message.contains("main.go:3: syntax error"),
        "{}",
        operation.status.message
    );
    let application = world.settled("web").await;
    assert_eq!(
        (application.status.phase, application.status.current),
        (Phase::Failed, Some(1))
    );
    let again = world.deployed("web", content("broken"), 1).await;
    assert_eq!(again.status.build, Some(3), "asking again tries again");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_another_application_has_is_refused() {
    let world = World::new().await;
    let claiming = |source| {
        let mut wanted = content(source);
        wanted.routes.push(RouteSpec {
            hosts: vec!["shop.example.com".parse().unwrap()],
            path: "/".to_owned(),
            process: Some(name("web")),
            port: None,
            strip: false,
            redirect: None,
        });
        wanted
    };
    world.healthy("web", claiming("v1"), 1).await;
    let operation = world.deployed("thief", claiming("v2"), 1).await;
    assert_eq!(operation.status.state, OperationState::Failed);
    assert!(
        operation
            .status
            .message
            .contains("host shop.example.com is taken"),
        "{}",
        operation.status.message
    );
    assert_eq!(
        world.ingress.request("shop.example.com", "/").await.body,
        "1 /"
    );
    world
        .ended(&world.platform.destroy(&key("web")).await.unwrap())
        .await;
    world.healthy("thief", claiming("v2"), 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_operation_leaves_what_ran_before() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    let accepted = world.deploy("web", content("endless"), 1).await;
    let id = accepted.operation.clone().unwrap();
    world
        .until("the build runs", || {
            world
                .application("web")
                .filter(|a| a.status.phase == Phase::Building)
        })
        .await;
    world
        .platform
        .cancel(&key("web").scope(), &id)
        .await
        .unwrap();
    assert_eq!(
        world.ended(&accepted).await.status.state,
        OperationState::Cancelled
    );
    world.settled("web").await;
    assert_eq!(
        world.ingress.request("web.localhost", "/").await.status,
        200
    );
    let again = world
        .platform
        .cancel(&key("web").scope(), &id)
        .await
        .unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_environment_is_refused_with_the_way_out() {
    let world = World::new().await;
    let staging = "default/default/staging/web".parse().unwrap();
    let deployment = Deployment {
        content: content("v1"),
        scale: BTreeMap::new(),
        autoscale: BTreeMap::new(),
    };
    let error = world
        .platform
        .deploy(&staging, deployment)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.message().contains("tappaas env create staging"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_the_platform_does_not_have_is_refused_by_its_name() {
    let world = World::new().await;
    world.healthy("web", limited("v1"), 1).await;
    let mut wanted = limited("v2");
    let web = wanted.processes.get_mut(&name("web")).unwrap();
    web.runtime = Runtime::Gpu;
    let operation = world.deployed("web", wanted, 1).await;
    assert_eq!(operation.status.state, OperationState::Failed);
    let message = &operation.status.message;
    let why = "process web asks for the runtime `gpu`, which this platform does not have; it has standard";
    assert!(message.contains(why), "{message}");
    assert_eq!(world.counts("web").await, BTreeMap::from([(1, 1)]));
}
