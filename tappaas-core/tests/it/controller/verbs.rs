//! What verbs refuse, and what they keep.

use std::{collections::BTreeMap, time::Duration};

use tappaas_core::{
    Error, ErrorKind, Kind, Scope,
    memory::Behaviour,
    model::{EnvValue, OperationSpec, OperationState, Phase, ReleasePhase},
    platform::Accepted,
};

use super::{
    guarded::Question,
    world::{World, content, key, name, scope},
};

async fn configured(world: &World, variable: &str) -> Accepted {
    let set = BTreeMap::from([(variable.to_owned(), EnvValue::new("1".to_owned()))]);
    let configured = world.platform.configure(&key("web"), set, Vec::new()).await;
    configured.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_restart_after_a_refused_release_is_refused_and_loses_nothing() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    world.behave("v1", Behaviour::exiting(1));
    let accepted = configured(&world, "A").await;
    assert_eq!(
        world.ended(&accepted).await.status.state,
        OperationState::Failed
    );

    let refused = world.platform.restart(&key("web")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.message().contains("roll back"), "{refused}");
    let application = world.settled("web").await;
    assert!(application.spec.content.config.contains_key("A"));

    let broken = world.deployed("web", content("broken"), 1).await;
    assert_eq!(broken.status.state, OperationState::Failed);
    let refused = world.platform.restart(&key("web")).await.unwrap_err();
    assert!(refused.message().contains("roll back"), "{refused}");

    world.healthy("web", content("v2"), 1).await;
    let accepted = world.platform.restart(&key("web")).await.unwrap();
    let operation = world.ended(&accepted).await;
    assert_eq!(operation.status.state, OperationState::Succeeded);
    let newest = world.releases("web").pop().unwrap();
    assert!(newest.spec.content.config.contains_key("A"));
    assert_eq!(newest.spec.image, super::world::image("v2"));
}

#[tokio::test(start_paused = true)]
async fn a_restart_waits_for_a_newer_release() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    world.behave("v2", Behaviour::listening_after(Duration::from_secs(5)));
    let accepted = world.deploy("web", content("v2"), 1).await;
    let rolls_out = || {
        let phase = world.releases("web").pop()?.status.phase;
        (phase == ReleasePhase::RollingOut).then_some(())
    };
    world.until("release 2 rolls out", rolls_out).await;
    let refused = world.platform.restart(&key("web")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let operation = world.ended(&accepted).await;
    assert_eq!(operation.status.state, OperationState::Succeeded);

    world.deploy("web", content("endless"), 1).await;
    let refused = world.platform.restart(&key("web")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let building = || {
        world
            .application("web")
            .filter(|a| a.status.phase == Phase::Building)
    };
    world.until("the build runs", building).await;
    let refused = world.platform.restart(&key("web")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_destruction_that_was_not_recorded_leaves_no_operation_behind() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    world.guard.set(|question| async move {
        match question {
            Question::Delete(key) if key.kind == Kind::Application => {
                Err(Error::unavailable("the store is away"))
            }
            _ => Ok(()),
        }
    });
    let failed = world.platform.destroy(&key("web")).await;
    world.guard.open();
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unavailable);
    let client = world.platform.client();
    let operations = client.list::<OperationSpec>(&scope());
    assert!(
        operations.iter().all(|o| o.status.state.ended()),
        "{operations:#?}"
    );
    assert_eq!(world.settled("web").await.status.phase, Phase::Running);
    assert_eq!(world.counts("web").await, BTreeMap::from([(1, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_removed_environment_is_seen_no_more_by_who_was_told_so() {
    let world = World::new().await;
    let [tenant, project, environment] = ["default", "default", "staging"].map(name);
    for _ in 0..3 {
        let platform = &world.platform;
        let made = platform.create_environment(&tenant, &project, &environment);
        made.await.unwrap();
        let scope = Scope::environment(tenant.clone(), project.clone(), environment.clone());
        assert!(platform.require_environment(&scope).is_ok());
        let removed = platform.remove_environment(&tenant, &project, &environment);
        removed.await.unwrap();
        assert!(platform.require_environment(&scope).is_err());
    }
}
