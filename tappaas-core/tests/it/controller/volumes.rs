//! Volumes and what uses them.

use std::time::Duration;

use tappaas_core::{
    ErrorKind,
    backend::VolumeId,
    model::{ApplicationContent, OperationState, Phase, VolumeMount, VolumeObjectSpec},
};

use super::world::{World, content, key, name, scope};

fn with_volume(source: &str, volume: &str) -> ApplicationContent {
    let mut wanted = content(source);
    let mount = VolumeMount {
        path: "/data".into(),
        size: None,
        process: name("web"),
    };
    wanted.volumes.insert(name(volume), mount);
    wanted
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_the_release_that_runs_is_not_removed() {
    let world = World::new().await;
    world.healthy("web", with_volume("v1", "data"), 1).await;
    let refused = world.deployed("web", content("broken"), 1).await;
    assert_eq!(refused.status.state, OperationState::Failed);
    let id = VolumeId {
        application: key("web"),
        name: name("data"),
    };
    let error = world.platform.remove_volume(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("web uses volume data"), "{error}");

    world.healthy("web", content("v2"), 1).await;
    world.settled("web").await;
    world.platform.remove_volume(&id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn volumes_whose_names_join_to_the_same_are_kept_apart() {
    let world = World::new().await;
    world.healthy("a", with_volume("v1", "b-c"), 1).await;
    world.healthy("a-b", with_volume("v1", "c"), 1).await;
    for (app, volume) in [("a", "b-c"), ("a-b", "c")] {
        world.healthy(app, content("v2"), 1).await;
        world.settled(app).await;
        let id = VolumeId {
            application: key(app),
            name: name(volume),
        };
        world.platform.remove_volume(&id).await.unwrap();
    }
    let backends = world.platform.backends();
    assert_eq!(backends.volumes.list().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_record_of_something_else_is_not_taken_for_that_of_a_volume() {
    let world = World::new().await;
    world.healthy("web", with_volume("v1", "data"), 1).await;
    let client = world.platform.client();
    let mut record = client.list::<VolumeObjectSpec>(&scope()).pop().unwrap();
    let accepted = world.platform.destroy(&key("web")).await.unwrap();
    world.ended(&accepted).await;
    let id = VolumeId {
        application: key("web"),
        name: name("data"),
    };
    world.platform.remove_volume(&id).await.unwrap();
    record.spec.application = name("other");
    client.create(&record).await.unwrap();

    world.deploy("web", with_volume("v1", "data"), 1).await;
    let made = || world.releases("web").pop();
    world.until("the release is made", made).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let volumes = world.platform.backends().volumes.list().await.unwrap();
    assert_eq!(volumes, [], "nothing would lead to it");
    client.delete(&record.key()).await.unwrap();
    let running = || {
        let application = world.application("web")?;
        (application.status.phase == Phase::Running).then_some(())
    };
    world.until("the volume is made", running).await;
}
