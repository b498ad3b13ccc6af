use tappaas_core::{
    backend::{Peer, Scheduler as _},
    model::Binding,
};

use super::world::{World, content, key, name};

#[tokio::test(start_paused = true)]
async fn a_binding_leads_to_the_other_application_over_its_redeploys() {
    let world = World::new().await;
    let mut front = content("front");
    let binding = Binding {
        application: name("api"),
        process: name("web"),
        port: None,
    };
    front.bindings.insert(name("backend"), binding);
    world.healthy("front", front, 1).await;
    let peer = Peer {
        application: key("api"),
        process: name("web"),
        port: name("http"),
    };
    let address = world.scheduler.peer(&key("front"), &peer).await.unwrap();
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
