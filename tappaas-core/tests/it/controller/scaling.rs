//! Counts that cannot be had.

use std::collections::BTreeMap;

use tappaas_core::{
    backend::{Node, Scheduler as _},
    memory::Behaviour,
    model::{ApplicationContent, Operation, OperationState, Phase, VolumeMount},
};

use super::world::{World, content, key, name};

async fn scaled(world: &World, count: u32) -> Operation {
    let counts = BTreeMap::from([(name("web"), count)]);
    let accepted = world.platform.scale(&key("web"), counts).await.unwrap();
    world.ended(&accepted).await
}

#[tokio::test(start_paused = true)]
async fn counts_that_find_no_room_fail_in_the_end_and_stay() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    let mut nodes: Vec<Node> = world.scheduler.nodes().await.unwrap();
    nodes[0].offer.capacity.instances = 2;
    world.scheduler.set_nodes(nodes);
    let operation = scaled(&world, 3).await;
    assert_eq!(operation.status.state, OperationState::Failed);
    let message = &operation.status.message;
    assert!(
        message.starts_with(
            "not so within 60 s, but the counts stay: process web has 2 of 3 instances ready ("
        ),
        "{message}"
    );
    assert_eq!(world.counts("web").await, BTreeMap::from([(1, 3)]));
}

#[tokio::test(start_paused = true)]
async fn added_instances_that_keep_ending_fail_the_scaling() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    world.behave("v1", Behaviour::exiting(7));
    let operation = scaled(&world, 2).await;
    assert_eq!(operation.status.state, OperationState::Failed);
    let message = &operation.status.message;
    assert!(message.contains("exited with code 7"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_volume_added_later_means_one_instance() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 3).await;
    let with_volume = |source| -> ApplicationContent {
        let mut wanted = content(source);
        let volume = VolumeMount {
            path: "/data".into(),
            size: None,
            process: name("web"),
        };
        wanted.volumes.insert(name("data"), volume);
        wanted
    };
    world.healthy("web", with_volume("v2"), 3).await;
    let application = world.settled("web").await;
    assert_eq!(application.status.phase, Phase::Running);
    let process = &application.status.processes[&name("web")];
    assert_eq!((process.wanted, process.ready), (1, 1));
    assert_eq!(application.status.message, "");

    let counts = BTreeMap::from([(name("web"), 0)]);
    let accepted = world.platform.scale(&key("web"), counts).await.unwrap();
    world.ended(&accepted).await;
    let operation = scaled(&world, 1).await;
    assert_eq!(operation.status.state, OperationState::Succeeded);
}
