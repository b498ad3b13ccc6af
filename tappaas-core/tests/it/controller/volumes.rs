//! Volumes and what uses them.

use tappaas_core::{
    ErrorKind,
    backend::VolumeId,
    model::{ApplicationContent, OperationState, VolumeMount},
};

use super::world::{World, content, key, name};

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
