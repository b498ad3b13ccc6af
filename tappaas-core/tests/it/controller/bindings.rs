use std::collections::BTreeMap;

use tappaas_core::{
    Error, ErrorKind,
    backend::{Frontend, IngressProvider as _, Peer, Scheduler as _},
    model::{ApplicationContent, Binding, OperationState},
};

use super::{
    guarded::Question,
    world::{World, content, key, name},
};

#[tokio::test(start_paused = true)]
async fn a_binding_leads_to_the_other_application_over_its_redeploys() {
    let world = World::new().await;
    world.healthy("front", bound("front"), 1).await;
    let address = world.scheduler.peer(&key("front"), &api()).await.unwrap();
    let listen = address
        .listen
        .expect("the memory scheduler has inner listeners");

    for (source, answer) in [("v1", "1 /"), ("v2", "2 /")] {
        world.healthy("api", content(source), 2).await;
        world.settled("api").await;
        let reached = world.ingress.request_inside(listen, "/").await;
        assert_eq!((reached.status, reached.body.as_str()), (200, answer));
    }

    let release = &world.releases("front")[0];
    assert!(release.spec.content.bindings.contains_key(&name("backend")));
    world.healthy("front", content("front-alone"), 1).await;
    world.settled("front").await;
    world.settled("api").await;
    let routes = world.platform.backends().ingress.list().await.unwrap();
    assert!(
        routes
            .iter()
            .all(|route| !route.name.as_str().starts_with("inner")),
        "{routes:?}"
    );
}

/// Content bound to process `web` of application `api`.
fn bound(source: &str) -> ApplicationContent {
    let mut wanted = content(source);
    let binding = Binding {
        application: name("api"),
        process: name("web"),
        port: None,
    };
    wanted.bindings.insert(name("backend"), binding);
    wanted
}

/// From now on no address of a peer can be told.
fn refuse_peers(world: &World, kind: ErrorKind) {
    world.guard.set(move |question| async move {
        match question {
            Question::Peer => Err(Error::new(kind, "sandboxes reach nobody")),
            _ => Ok(()),
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_the_scheduler_cannot_make_refuses_its_release_alone() {
    let world = World::new().await;
    world.healthy("front", content("v1"), 1).await;
    world.healthy("api", content("v1"), 1).await;
    refuse_peers(&world, ErrorKind::Unsupported);
    let operation = world.deployed("front", bound("v2"), 1).await;
    assert_eq!(operation.status.state, OperationState::Failed);
    assert_eq!(
        operation.status.message,
        "release 2 failed: binding backend: sandboxes reach nobody"
    );

    world.healthy("api", content("v2"), 1).await;
    world.healthy("front", content("v3"), 1).await;
    for app in ["front", "api"] {
        let accepted = world.platform.destroy(&key(app)).await.unwrap();
        let operation = world.ended(&accepted).await;
        assert_eq!(operation.status.state, OperationState::Succeeded);
    }
}

#[tokio::test(start_paused = true)]
async fn a_binding_that_leads_nowhere_any_more_stops_neither_side() {
    let world = World::new().await;
    world.healthy("api", content("v1"), 1).await;
    world.healthy("front", bound("v1"), 1).await;
    world.settled("api").await;
    refuse_peers(&world, ErrorKind::Internal);
    world.healthy("api", content("v2"), 1).await;
    world.healthy("front", content("v2"), 1).await;
    world.settled("front").await;
    assert_eq!(world.counts("front").await, BTreeMap::from([(2, 1)]));

    world.guard.open();
    world.healthy("front", bound("v3"), 1).await;
    refuse_peers(&world, ErrorKind::Internal);
    for app in ["front", "api"] {
        let accepted = world.platform.destroy(&key(app)).await.unwrap();
        let operation = world.ended(&accepted).await;
        assert_eq!(operation.status.state, OperationState::Succeeded);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_without_the_address_of_a_binding() {
    let world = World::new().await;
    world.healthy("front", bound("v1"), 1).await;
    refuse_peers(&world, ErrorKind::Unavailable);
    let counts = BTreeMap::from([(name("web"), 2)]);
    let accepted = world.platform.scale(&key("front"), counts).await.unwrap();
    let operation = world.ended(&accepted).await;
    assert_eq!(operation.status.state, OperationState::Failed);
    assert!(
        operation
            .status
            .message
            .contains("binding backend: sandboxes reach nobody"),
        "{}",
        operation.status.message
    );
    assert_eq!(world.counts("front").await, BTreeMap::from([(1, 1)]));
    world.guard.open();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(world.counts("front").await, BTreeMap::from([(1, 2)]));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_cannot_be_told_for_a_while_takes_nothing_away() {
    let world = World::new().await;
    world.healthy("api", content("v1"), 1).await;
    world.healthy("front", bound("v1"), 1).await;
    world.settled("api").await;
    assert_eq!(ways_in(&world).await, 1);
    refuse_peers(&world, ErrorKind::Unavailable);
    let waiting = world.deploy("front", bound("v2"), 1).await;
    world.healthy("api", content("v2"), 1).await;
    assert_eq!(ways_in(&world).await, 1);
    let rolling = || world.releases("front").into_iter().nth(1);
    let release = world.until("the release is made", rolling).await;
    assert!(!release.status.phase.ended(), "{release:?}");

    world.guard.open();
    let operation = world.ended(&waiting).await;
    assert_eq!(
        operation.status.state,
        OperationState::Succeeded,
        "{}",
        operation.status.message
    );
    let front = world.scheduler.peer(&key("front"), &api()).await.unwrap();
    world.settled("api").await;
    let reached = world.ingress.request_inside(front.listen.unwrap(), "/");
    assert_eq!(reached.await.body, "2 /");
}

#[tokio::test(start_paused = true)]
async fn a_way_in_that_cannot_be_made_does_not_stop_a_rollout() {
    let world = World::new().await;
    world.healthy("front", bound("v1"), 1).await;
    world.guard.set(|question| async move {
        match question {
            Question::ApplyRoute(route) if matches!(route.frontend, Frontend::Inner { .. }) => {
                Err(Error::unavailable("the address is in use"))
            }
            _ => Ok(()),
        }
    });
    for source in ["v1", "v2"] {
        world.healthy("api", content(source), 2).await;
        world.settled("api").await;
    }
    assert_eq!(world.counts("api").await, BTreeMap::from([(2, 2)]));
    world.guard.open();
    let front = world.scheduler.peer(&key("front"), &api()).await.unwrap();
    let reached = async || {
        let answer = world.ingress.request_inside(front.listen.unwrap(), "/");
        answer.await.status == 200
    };
    for _ in 0..100 {
        if reached().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the route is not made once it can be");
}

#[tokio::test(start_paused = true)]
async fn a_way_in_goes_with_the_application_that_used_it_though_nobody_tells() {
    let world = World::new().await;
    world.healthy("api", content("v1"), 1).await;
    world.healthy("front", bound("v1"), 1).await;
    world.settled("api").await;
    assert_eq!(ways_in(&world).await, 1);
    let accepted = world.platform.destroy(&key("front")).await.unwrap();
    // By these it could be told, once the application itself is gone, whom it was bound to.
    for release in world.releases("front") {
        let key = release.key();
        world.platform.client().delete(&key).await.unwrap();
    }
    let operation = world.ended(&accepted).await;
    assert_eq!(operation.status.state, OperationState::Succeeded);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(ways_in(&world).await, 0);
}

/// How many routes lead from inside to any application.
async fn ways_in(world: &World) -> usize {
    let routes = world.ingress.list().await.unwrap().into_iter();
    routes
        .filter(|route| route.name.as_str().starts_with("inner"))
        .count()
}

fn api() -> Peer {
    Peer {
        application: key("api"),
        process: name("web"),
        port: name("http"),
    }
}
