//! Environments with limits, on a scheduler that keeps none.

use std::collections::BTreeMap;

use tappaas_core::{
    ErrorKind,
    model::{
        Condition, ConditionKind, Environment, EnvironmentSpec, Limits, OperationState, Phase,
        Truth,
    },
};

use super::world::{World, content, key, name, scope};

fn instances(most: u32) -> Limits {
    Limits {
        instances: Some(most),
        ..Limits::default()
    }
}

/// Changes the environment as `kubectl` does.
async fn limit(world: &World, limits: Limits) {
    let project = scope().parent().unwrap();
    let change = |environment: &mut Environment| {
        environment.spec.limits = limits;
        Ok(())
    };
    let client = world.platform.client();
    let changed = client.modify(&project, "production", change).await;
    changed.unwrap();
}

async fn ready(world: &World, reason: &str) -> Condition {
    let project = scope().parent().unwrap();
    let client = world.platform.client();
    world
        .until("the environment says so", || {
            let found = client.get::<EnvironmentSpec>(&project, "production");
            let mut known = found.unwrap()?.status.conditions.into_iter();
            known.find(|one| one.kind == ConditionKind::Ready && one.reason == reason)
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn limits_that_are_not_kept_are_said_and_nothing_new_runs_until_they_go() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    limit(&world, instances(3)).await;
    let told = ready(&world, "LimitsUnsupported").await;
    assert_eq!(told.status, Truth::False);
    assert!(
        told.message.contains("take `limits` out"),
        "{}",
        told.message
    );

    let refused = world.deployed("web", content("v2"), 1).await;
    assert_eq!(refused.status.state, OperationState::Failed);
    assert!(refused.status.message.contains("cannot keep limits"));
    let counts = BTreeMap::from([(name("web"), 2)]);
    let scaled = world.platform.scale(&key("web"), counts).await;
    assert_eq!(scaled.unwrap_err().kind(), ErrorKind::Unsupported);
    // What ran goes on.
    assert_eq!(world.counts("web").await, BTreeMap::from([(1, 1)]));

    limit(&world, Limits::default()).await;
    ready(&world, "Prepared").await;
    let running = || {
        let application = world.application("web")?;
        (application.status.phase == Phase::Running && application.status.current == Some(2))
            .then_some(())
    };
    world.until("what was refused is made", running).await;
}

#[tokio::test(start_paused = true)]
async fn limits_that_make_no_sense_are_refused_by_their_field() {
    let world = World::new().await;
    limit(&world, instances(0)).await;
    let told = ready(&world, "Invalid").await;
    assert!(
        told.message.starts_with("limits.instances: "),
        "{}",
        told.message
    );
    let environment = scope();
    let limit = |limits| world.platform.limit_environment(&environment, limits);
    let refused = limit(instances(0)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let refused = limit(instances(1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    limit(Limits::default()).await.unwrap();
    ready(&world, "Prepared").await;
}
