use tappaas_core::{
    ErrorKind,
    memory::{Behaviour, End},
};

use super::world::{World, content, key};

#[tokio::test(start_paused = true)]
async fn who_waits_gets_the_application_as_it_is_once_it_is_healthy() {
    let world = World::new().await;
    let accepted = world.deploy("web", content("v1"), 2).await;
    let application = world.platform.settle(&key("web"), &accepted).await.unwrap();
    assert_eq!(application.status.current, Some(1));
    // Nothing changes, so there is nothing to wait for.
    let again = world.deploy("web", content("v1"), 2).await;
    assert_eq!(again.operation, None);
    let same = world.platform.settle(&key("web"), &again).await.unwrap();
    assert_eq!(same.status.current, Some(1));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_is_refused_is_told_why() {
    let world = World::new().await;
    let ends = Behaviour {
        end: Some((std::time::Duration::ZERO, End::Code(3))),
        ..Behaviour::default()
    };
    world.behave("bad", ends);
    let accepted = world.deploy("web", content("bad"), 1).await;
    let error = world.platform.settle(&key("web"), &accepted).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("exited with code 3"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_something_newer_replaces_is_told_so() {
    let world = World::new().await;
    world.behave("v1", Behaviour::never_listening());
    let older = world.deploy("web", content("v1"), 1).await;
    world.deploy("web", content("v2"), 1).await;
    let error = world.platform.settle(&key("web"), &older).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_for_what_is_being_made_waits_for_it_too() {
    let world = World::new().await;
    let ends = Behaviour {
        end: Some((std::time::Duration::from_secs(5), End::Code(3))),
        ..Behaviour::never_listening()
    };
    world.behave("bad", ends);
    world.deploy("web", content("bad"), 1).await;
    // As somebody would whose first reply was lost.
    let again = world.deploy("web", content("bad"), 1).await;
    let error = world.platform.settle(&key("web"), &again).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(world.releases("web").len(), 1, "nothing is made twice");
}
