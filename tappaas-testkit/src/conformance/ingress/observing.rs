use futures::{StreamExt as _, future::join_all};
use tappaas_core::backend::Action;

use super::{Gate, IngressFixture, Scene, scene::HOST};
use crate::conformance::{Failure, PATIENCE, Verdict, macros::ensure, pass_over};

/// `observe` of an unknown route returns `None`, and `remove` of one succeeds.
pub async fn an_unknown_route_is_not_observed_and_may_be_removed(
    fixture: &dyn IngressFixture,
) -> Verdict {
    let mut scene = Scene::new(fixture);
    let unknown = scene.ingress.observe(&scene.route.id).await?;
    ensure!(
        unknown.is_none(),
        "a route never applied is observed: {unknown:?}"
    );
    scene.ingress.remove(&scene.route.id).await?;
    scene.to(&[]).await?;
    let status = scene.status().await?;
    ensure!(
        status.route == scene.route,
        "observed is {:?}",
        status.route
    );
    scene.ingress.remove(&scene.route.id).await?;
    let removed = scene.ingress.observe(&scene.route.id).await?;
    ensure!(
        removed.is_none(),
        "a removed route is observed: {removed:?}"
    );
    Ok(())
}

/// `list` returns every route there is.
pub async fn list_names_every_route(fixture: &dyn IngressFixture) -> Verdict {
    let mut one = Scene::of(fixture, "one", HOST, "/");
    let mut two = Scene::of(fixture, "two", HOST, "/two");
    ensure!(
        one.ingress.list().await?.is_empty(),
        "there are routes before the first"
    );
    one.to(&[]).await?;
    two.to(&[]).await?;
    let mut listed = one.ingress.list().await?;
    listed.sort();
    ensure!(
        listed == [one.route.id.clone(), two.route.id.clone()],
        "listed are {listed:?}"
    );
    one.ingress.remove(&one.route.id).await?;
    let listed = two.ingress.list().await?;
    ensure!(
        listed == [two.route.id.clone()],
        "after a removal listed are {listed:?}"
    );
    Ok(())
}

/// `watch` yields signals of every route with traffic: what was answered, and what is in flight.
pub async fn watch_tells_how_traffic_flows(fixture: &dyn IngressFixture) -> Verdict {
    let (mut scene, gate) = (Scene::new(fixture), Gate::new());
    if !scene.ingress.capabilities().signals {
        return tells_nothing(&scene, "watch_tells_how_traffic_flows").await;
    }
    let server = fixture.serve("a", &gate).await?;
    let mut failing = Scene::of(fixture, "failing", "failing.example.com", "/");
    scene.to(&[&server]).await?;
    failing.to(&[]).await?;
    let mut signals = scene.ingress.watch().await?;
    let requests = (0..5).map(|_| fixture.request(HOST, "/"));
    for reply in join_all(requests).await {
        reply?;
    }
    failing.refuses("failing.example.com", "/", 503).await?;
    let (mut answered, mut errors, mut seen_in_flight) = (0, 0, false);
    let watching = async {
        while answered < 5 || errors < 1 || !seen_in_flight {
            let signal = signals.next().await.ok_or("the watch ended")?;
            if signal.id == scene.route.id {
                answered += signal.requests;
                seen_in_flight |= signal.in_flight == 1;
            } else {
                errors += signal.errors;
            }
        }
        gate.open();
        Ok::<_, Failure>(())
    };
    let both = futures::future::join(watching, fixture.request(HOST, "/held"));
    let watched = tokio::time::timeout(PATIENCE, both).await;
    let seen = format!("{answered} of 5 answers, {errors} of 1 error, in flight: {seen_in_flight}");
    let (watched, reply) = watched.map_err(|_| format!("the signals told only {seen}"))?;
    watched?;
    reply?;
    ensure!((answered, errors) == (5, 1), "the signals told {seen}");
    Ok(())
}

/// `watch` tells that a request waits because there is no endpoint.
pub async fn watch_tells_that_a_request_waits(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    let able = scene.ingress.capabilities();
    if !able.signals || !able.holds {
        return tells_nothing(&scene, "watch_tells_that_a_request_waits").await;
    }
    let server = scene.serve("a").await?;
    let holding = Action::Forward {
        targets: Vec::new(),
        strip_prefix: false,
        hold: PATIENCE,
    };
    scene.act(holding).await?;
    let mut signals = scene.ingress.watch().await?;
    let watching = async {
        while let Some(signal) = signals.next().await {
            if signal.waiting == 1 {
                return scene.to(&[&server]).await;
            }
        }
        Err(Failure::from("the watch ended"))
    };
    let both = futures::future::join(watching, fixture.request(HOST, "/"));
    let late = |_| Failure::from("no signal told that a request waits");
    let (watched, reply) = tokio::time::timeout(PATIENCE, both).await.map_err(late)?;
    watched?;
    ensure!(reply?.body == "a /", "the waiting request was not answered");
    Ok(())
}

/// A watch that does not tell how traffic flows can be had all the same, and does not end.
async fn tells_nothing(scene: &Scene<'_>, case: &str) -> Verdict {
    pass_over(case, "the ingress does not tell how traffic flows");
    let mut signals = scene.ingress.watch().await?;
    let ended = futures::poll!(signals.next()).is_ready();
    ensure!(!ended, "the watch ended, or tells of a route not applied");
    Ok(())
}
