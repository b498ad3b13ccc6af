use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use futures::future::join;
use tappaas_core::{
    ErrorKind,
    backend::{Action, Endpoint, Frontend, IngressCapabilities},
};

use super::{
    Gate, IngressFixture, Scene,
    scene::{HOST, forward, target},
};
use crate::conformance::{
    Failure, PATIENCE, Verdict, macros::ensure, pass_over, stays, until, verdict::refused,
};

/// Endpoints of one target share its requests.
pub async fn endpoints_of_a_target_share_its_requests(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    if !scene.ingress.capabilities().splits {
        pass_over(
            "endpoints_of_a_target_share_its_requests",
            "a route has one endpoint",
        );
        return Ok(());
    }
    let (one, two) = (scene.serve("one").await?, scene.serve("two").await?);
    scene.to(&[&one, &two]).await?;
    let counts = count(fixture, 60).await?;
    let shared = ["one", "two"]
        .iter()
        .all(|&name| counts.get(name).is_some_and(|n| *n >= 10));
    ensure!(
        shared,
        "of 60 requests each should get about half: {counts:?}"
    );
    Ok(())
}

/// Targets share requests in proportion to their weights; weight 0 gets none.
pub async fn targets_share_requests_by_weight(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    if !scene.ingress.capabilities().splits {
        pass_over(
            "targets_share_requests_by_weight",
            "a route has one endpoint",
        );
        return Ok(());
    }
    let (most, few) = (scene.serve("most").await?, scene.serve("few").await?);
    let (more, none) = (scene.serve("most").await?, scene.serve("none").await?);
    scene
        .forward(vec![
            target(30, vec![most.endpoint.clone(), more.endpoint.clone()]),
            target(10, vec![few.endpoint.clone()]),
            target(0, vec![none.endpoint.clone()]),
        ])
        .await?;
    let counts = count(fixture, 200).await?;
    let few = counts.get("few").copied().unwrap_or(0);
    ensure!(
        (20..=80).contains(&few) && !counts.contains_key("none"),
        "of 200 requests 150, 50 and 0 were expected: {counts:?}"
    );
    Ok(())
}

/// A request that could not reach one endpoint is tried at another of the same target.
pub async fn a_request_that_cannot_connect_is_tried_elsewhere(
    fixture: &dyn IngressFixture,
) -> Verdict {
    let mut scene = Scene::new(fixture);
    if !scene.ingress.capabilities().retries {
        pass_over(
            "a_request_that_cannot_connect_is_tried_elsewhere",
            "the ingress does not try again",
        );
        return Ok(());
    }
    let (dead, alive) = (scene.serve("dead").await?, scene.serve("alive").await?);
    scene.to(&[&dead, &alive]).await?;
    drop(dead);
    for _ in 0..10 {
        scene.answers("/", "alive /").await?;
    }
    Ok(())
}

/// A route without endpoints answers 503.
pub async fn a_route_without_endpoints_answers_503(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    scene.forward(Vec::new()).await?;
    scene.refuses(HOST, "/", 503).await?;
    scene.forward(vec![target(1, Vec::new())]).await?;
    scene.refuses(HOST, "/", 503).await
}

/// While there is no endpoint a request waits for one, as long as the route says; where the ingress holds none, it is answered at once.
pub async fn a_request_is_held_until_there_is_an_endpoint(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    if !scene.ingress.capabilities().holds {
        scene.act(holding(PATIENCE)).await?;
        return scene.refuses(HOST, "/", 503).await;
    }
    let server = scene.serve("a").await?;
    scene.act(holding(PATIENCE)).await?;
    let mut held = std::pin::pin!(fixture.request(HOST, "/"));
    let waiting = stays("the request waits", async || Ok(true));
    tokio::select! {
        waited = waiting => waited?,
        reply = &mut held => {
            return Err(format!("a request to be held got {reply:?}").into());
        }
    }
    let (reply, changed) = join(held, scene.to(&[&server])).await;
    changed?;
    let reply = reply?;
    ensure!(reply.body == "a /", "the held request got {reply:?}");
    scene.act(holding(Duration::from_millis(100))).await?;
    scene.refuses(HOST, "/", 503).await
}

/// An endpoint of a kind that the capabilities deny is refused with `Unsupported`.
pub async fn an_endpoint_that_cannot_be_opened_is_refused(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    let capabilities = scene.ingress.capabilities();
    let address = Endpoint::Address(([192, 0, 2, 1], 8080).into());
    let dial = Endpoint::Dial {
        socket: PathBuf::from("/nonexistent/socket"),
        port: 8080,
    };
    let service = Endpoint::Service {
        host: "app.namespace.svc".to_owned(),
        port: 8080,
    };
    for (able, endpoint) in [
        (capabilities.address_endpoints, address),
        (capabilities.dial_endpoints, dial),
        (capabilities.service_endpoints, service),
    ] {
        if able {
            continue;
        }
        scene.route.generation += 1;
        scene.route.action = forward(vec![target(1, vec![endpoint.clone()])]);
        let answer = scene.ingress.apply(&scene.route).await;
        refused(answer, ErrorKind::Unsupported, &format!("{endpoint:?}"))?;
    }
    Ok(())
}

/// Anything else of a route that the capabilities deny is refused with `Unsupported`.
pub async fn a_route_that_cannot_be_served_is_refused(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    let able = scene.ingress.capabilities();
    let (one, two) = (scene.serve("one").await?, scene.serve("two").await?);
    let endpoints = vec![one.endpoint.clone(), two.endpoint.clone()];
    let outside = scene.route.frontend.clone();
    let inside = Frontend::Inner {
        listen: fixture.inner_address().await?,
    };
    let stripping = Action::Forward {
        targets: vec![target(1, vec![one.endpoint.clone()])],
        strip_prefix: true,
        hold: Duration::ZERO,
    };
    let mut denied = vec![
        (able.inner, inside, forward(Vec::new())),
        (able.strips, outside.clone(), stripping),
        (
            able.splits,
            outside.clone(),
            forward(vec![target(1, endpoints)]),
        ),
    ];
    for status in IngressCapabilities::REDIRECTS {
        let to = "https://example.org/".to_owned();
        let redirect = Action::Redirect { to, status };
        denied.push((able.redirects.contains(&status), outside.clone(), redirect));
    }
    for (_, frontend, action) in denied.into_iter().filter(|(able, ..)| !able) {
        scene.route.generation += 1;
        (scene.route.frontend, scene.route.action) = (frontend, action);
        let answer = scene.ingress.apply(&scene.route).await;
        let what = format!("{:?}", scene.route);
        refused(answer, ErrorKind::Unsupported, &what)?;
    }
    let observed = scene.ingress.observe(&scene.route.id).await?;
    ensure!(
        observed.is_none(),
        "a refused route is observed: {observed:?}"
    );
    Ok(())
}

/// A route whose frontend is an address inside passes connections to its target, and follows changes like any other.
pub async fn a_route_from_inside_reaches_its_target(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::new(fixture);
    if !scene.ingress.capabilities().inner {
        pass_over(
            "a_route_from_inside_reaches_its_target",
            "the ingress has no inside",
        );
        return Ok(());
    }
    let listen = fixture.inner_address().await?;
    let (one, two) = (scene.serve("one").await?, scene.serve("two").await?);
    scene.route.frontend = Frontend::Inner { listen };
    for (server, body) in [(&one, "one /x"), (&two, "two /x")] {
        scene.to(&[server]).await?;
        let reply = fixture.request_inside(listen, "/x").await?;
        ensure!(reply.body == body, "expected `{body}`, got {reply:?}");
    }
    let mut rival = Scene::of(fixture, "rival", HOST, "/");
    rival.route.generation = 1;
    rival.route.frontend = Frontend::Inner { listen };
    let answer = rival.ingress.apply(&rival.route).await;
    refused(
        answer,
        ErrorKind::AlreadyExists,
        "an address that another route has",
    )?;
    scene.ingress.remove(&scene.route.id).await?;
    until("nothing listens there", async || {
        Ok(fixture
            .request_inside(listen, "/")
            .await
            .is_err()
            .then_some(()))
    })
    .await
}

/// A connection from inside is not disturbed by the removal of its route.
pub async fn a_request_in_flight_from_inside_is_not_disturbed(
    fixture: &dyn IngressFixture,
) -> Verdict {
    let (mut scene, gate) = (Scene::new(fixture), Gate::new());
    if !scene.ingress.capabilities().inner {
        pass_over(
            "a_request_in_flight_from_inside_is_not_disturbed",
            "the ingress has no inside",
        );
        return Ok(());
    }
    let listen = fixture.inner_address().await?;
    let server = fixture.serve("a", &gate).await?;
    scene.route.frontend = Frontend::Inner { listen };
    scene.to(&[&server]).await?;
    let removing = async {
        gate.arrived(1).await;
        scene.ingress.remove(&scene.route.id).await?;
        until("nothing new is taken", async || {
            let refused = fixture.request_inside(listen, "/").await.is_err();
            Ok(refused.then_some(()))
        })
        .await?;
        gate.open();
        Ok::<_, Failure>(())
    };
    let both = join(fixture.request_inside(listen, "/held"), removing);
    let late = |_| Failure::from("the held request did not arrive or not end");
    let (reply, removed) = tokio::time::timeout(PATIENCE, both).await.map_err(late)?;
    removed?;
    let reply = reply?;
    ensure!(reply.body == "a /held", "it got {reply:?}");
    Ok(())
}

/// Who answered how many of so many requests.
async fn count(
    fixture: &dyn IngressFixture,
    requests: u32,
) -> Result<BTreeMap<String, u32>, Failure> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let reply = fixture.request(HOST, "/").await?;
        ensure!(reply.status == 200, "got {reply:?}");
        let name = reply.body.split(' ').next().unwrap_or_default();
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

/// Nobody to forward to yet: requests wait so long.
fn holding(hold: Duration) -> Action {
    Action::Forward {
        targets: Vec::new(),
        strip_prefix: false,
        hold,
    }
}
