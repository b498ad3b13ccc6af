use std::time::Duration;

use futures::future::join;
use tappaas_core::{
    ErrorKind,
    backend::{Draining, Frontend},
};

use super::{
    Gate, IngressFixture, Scene,
    scene::{HOST, forward, target},
};
use crate::conformance::{
    Failure, PATIENCE, Verdict, macros::ensure, pass_over, until, verdict::refused,
};

/// `apply` is idempotent.
pub async fn a_route_applied_again_changes_nothing(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    let server = scene.serve("a").await?;
    scene.to(&[&server]).await?;
    let before = scene.status().await?;
    scene.ingress.apply(&scene.route).await?;
    let after = scene.status().await?;
    ensure!(before == after, "before it was {before:?}, then {after:?}");
    scene.answers("/", "a /").await
}

/// `apply` refuses a generation lower than the last one it took with `Conflict`.
pub async fn an_older_route_is_refused(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    let server = scene.serve("a").await?;
    scene.to(&[&server]).await?;
    let old = scene.route.clone();
    scene.to(&[&server]).await?;
    let answer = scene.ingress.apply(&old).await;
    refused(answer, ErrorKind::Conflict, "generation 1 after 2")?;
    scene.answers("/", "a /").await
}

/// `apply` refuses the same generation with other content with `Conflict`.
pub async fn a_route_generation_with_other_content_is_refused(
    fixture: &dyn IngressFixture,
) -> Verdict {
    let mut scene = Scene::new(fixture);
    let server = scene.serve("a").await?;
    scene.to(&[&server]).await?;
    let mut other = scene.route.clone();
    other.action = forward(Vec::new());
    let answer = scene.ingress.apply(&other).await;
    refused(
        answer,
        ErrorKind::Conflict,
        "generation 1 with another action",
    )?;
    scene.answers("/", "a /").await
}

/// A change is atomic: a request sees the old route or the new one, whole; where it is not, it is answered 503, never by anybody else.
pub async fn a_change_of_routes_is_atomic(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    let atomic = scene.ingress.capabilities().atomic;
    let (one, other) = (scene.serve("one").await?, scene.serve("other").await?);
    scene.to(&[&one]).await?;
    let changing = async {
        for round in 0..20 {
            let server = if round % 2 == 0 { &other } else { &one };
            scene.to(&[server]).await?;
        }
        Ok::<_, Failure>(())
    };
    let mut changing = std::pin::pin!(changing);
    let mut answered = 0;
    loop {
        let request = fixture.request(HOST, "/");
        let pause = tokio::time::sleep(Duration::from_millis(1));
        let (reply, ended) = tokio::select! {
            (reply, ()) = join(request, pause) => (reply?, None),
            ended = &mut changing => (fixture.request(HOST, "/").await?, Some(ended)),
        };
        let whole = match reply.status {
            200 => matches!(reply.body.as_str(), "one /" | "other /"),
            status => status == 503 && !atomic,
        };
        ensure!(whole, "after {answered} good answers: {reply:?}");
        answered += 1;
        if let Some(ended) = ended {
            return ended;
        }
    }
}

/// Once the new generation is observed, no new request goes to an endpoint that the route does not name.
pub async fn no_new_request_goes_to_an_endpoint_left_out(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    let (one, other) = (scene.serve("one").await?, scene.serve("other").await?);
    let both = [&one, &other];
    let before = match scene.ingress.capabilities().splits {
        true => &both[..],
        false => &both[..1],
    };
    for _ in 0..5 {
        scene.to(before).await?;
        scene.fixture.request(HOST, "/").await?;
        scene.to(&[&other]).await?;
        for _ in 0..10 {
            scene.answers("/", "other /").await?;
        }
    }
    Ok(())
}

/// An endpoint taken out of a route is draining while requests to it are in flight, and not longer.
pub async fn an_endpoint_drains_as_long_as_requests_are_in_flight(
    fixture: &dyn IngressFixture,
) -> Verdict {
    let (mut scene, gate) = (Scene::new(fixture), Gate::new());
    if !scene.ingress.capabilities().drains {
        pass_over(
            "an_endpoint_drains_as_long_as_requests_are_in_flight",
            "the ingress does not tell what is in flight",
        );
        return Ok(());
    }
    let (old, new) = (
        fixture.serve("old", &gate).await?,
        scene.serve("new").await?,
    );
    scene.to(&[&old]).await?;
    let held = async {
        join(
            fixture.request(HOST, "/held/1"),
            fixture.request(HOST, "/held/2"),
        )
        .await
    };
    let changing = async {
        gate.arrived(2).await;
        ensure!(
            scene.status().await?.draining.is_empty(),
            "what the route names is not draining"
        );
        scene.to(&[&new]).await?;
        let draining = scene.status().await?.draining;
        let expected = [Draining {
            endpoint: old.endpoint.clone(),
            in_flight: 2,
        }];
        ensure!(
            draining == expected,
            "two requests are in flight, but {draining:?}"
        );
        scene.answers("/", "new /").await?;
        gate.open();
        scene.drained().await
    };
    let both = join(held, changing);
    let late = |_| Failure::from("the held requests did not arrive or not end");
    let ((one, two), changed) = tokio::time::timeout(PATIENCE, both).await.map_err(late)?;
    changed?;
    for (reply, path) in [(one?, "/held/1"), (two?, "/held/2")] {
        ensure!(
            reply.body == format!("old {path}"),
            "a request in flight got {reply:?}"
        );
    }
    Ok(())
}

/// A request in flight is not disturbed by any change of routes, not even by the removal of its own.
pub async fn a_request_in_flight_is_not_disturbed(fixture: &dyn IngressFixture) -> Verdict {
    let (mut scene, gate) = (Scene::new(fixture), Gate::new());
    let server = fixture.serve("a", &gate).await?;
    scene.to(&[&server]).await?;
    let changing = async {
        gate.arrived(1).await;
        scene.to(&[]).await?;
        let mut other = Scene::of(fixture, "other", "other.example.com", "/");
        other.to(&[&server]).await?;
        scene.ingress.remove(&scene.route.id).await?;
        until("the route is gone", async || {
            let reply = fixture.request(HOST, "/").await?;
            Ok((reply.status == 404).then_some(()))
        })
        .await?;
        gate.open();
        Ok::<_, Failure>(())
    };
    let both = join(fixture.request(HOST, "/held"), changing);
    let late = |_| Failure::from("the held request did not arrive or not end");
    let (reply, changed) = tokio::time::timeout(PATIENCE, both).await.map_err(late)?;
    changed?;
    let reply = reply?;
    ensure!(
        (reply.status, reply.body.as_str()) == (200, "a /held"),
        "it got {reply:?}"
    );
    Ok(())
}

/// A removed route answers no more, and its host is free for another one.
pub async fn a_removed_route_answers_404(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    let server = scene.serve("a").await?;
    scene.to(&[&server]).await?;
    scene.ingress.remove(&scene.route.id).await?;
    scene.ingress.remove(&scene.route.id).await?;
    until("the host answers 404", async || {
        Ok((fixture.request(HOST, "/").await?.status == 404).then_some(()))
    })
    .await?;
    let mut next = Scene::of(fixture, "next", HOST, "/");
    next.to(&[&server]).await?;
    next.answers("/", "a /").await
}

/// A host and path that another route has is refused with `AlreadyExists`.
pub async fn a_host_and_path_belong_to_one_route(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    let server = scene.serve("a").await?;
    scene.to(&[&server]).await?;
    let mut rival = Scene::of(fixture, "rival", HOST, "/");
    rival.route.frontend = Frontend::Http {
        hosts: vec![
            super::scene::host("free.example.com"),
            super::scene::host(HOST),
        ],
        path: "/".to_owned(),
    };
    rival.route.action = forward(vec![target(1, vec![server.endpoint.clone()])]);
    rival.route.generation = 1;
    let answer = rival.ingress.apply(&rival.route).await;
    refused(answer, ErrorKind::AlreadyExists, "a taken host and path")?;
    let listed = rival.ingress.list().await?;
    ensure!(
        listed == [scene.route.id.clone()],
        "the refused route is there: {listed:?}"
    );
    let mut neighbour = Scene::of(fixture, "neighbour", HOST, "/api");
    neighbour.to(&[&server]).await
}
