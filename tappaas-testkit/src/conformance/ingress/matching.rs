use std::time::Duration;

use tappaas_core::backend::Action;

use super::{
    IngressFixture, Scene,
    scene::{HOST, target},
};
use crate::conformance::{Verdict, macros::ensure, pass_over};

/// The longest matching path prefix wins, by whole segments.
pub async fn the_longest_path_prefix_wins_by_whole_segments(
    fixture: &dyn IngressFixture,
) -> Verdict {
    let mut root = Scene::of(fixture, "root", HOST, "/");
    let mut api = Scene::of(fixture, "api", HOST, "/api");
    let mut deep = Scene::of(fixture, "deep", HOST, "/api/v1");
    let servers = [
        root.serve("root").await?,
        api.serve("api").await?,
        deep.serve("deep").await?,
    ];
    for (scene, server) in [&mut root, &mut api, &mut deep].into_iter().zip(&servers) {
        scene.to(&[server]).await?;
    }
    for (path, name) in [
        ("/", "root"),
        ("/apiary", "root"),
        ("/other/api", "root"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api?q=/api/v1", "api"),
        ("/api/v10", "api"),
        ("/api/v1", "deep"),
        ("/api/v1/x", "deep"),
    ] {
        root.answers(path, &format!("{name} {path}")).await?;
    }
    Ok(())
}

/// Of the routes that match a request an exact host wins over a wildcard.
pub async fn an_exact_host_wins_over_a_wildcard(fixture: &dyn IngressFixture) -> Verdict {
    let mut wildcard = Scene::of(fixture, "wildcard", "*.example.com", "/long/path");
    let mut exact = Scene::of(fixture, "exact", HOST, "/long");
    let (one, other) = (
        wildcard.serve("wildcard").await?,
        exact.serve("exact").await?,
    );
    wildcard.to(&[&one]).await?;
    exact.to(&[&other]).await?;
    exact.answers("/long/path", "exact /long/path").await?;
    wildcard
        .host_answers("other.example.com", "/long/path", "wildcard /long/path")
        .await
}

/// A first label `*` stands for exactly one label; where the capabilities deny that, at least not for none.
pub async fn a_wildcard_stands_for_exactly_one_label(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::of(fixture, "wildcard", "*.example.com", "/");
    let server = scene.serve("a").await?;
    scene.to(&[&server]).await?;
    scene.host_answers("one.example.com", "/", "a /").await?;
    scene.host_answers("TWO.Example.com", "/", "a /").await?;
    for host in ["example.com", "example.org", "xexample.com"] {
        scene.refuses(host, "/", 404).await?;
    }
    if scene.ingress.capabilities().one_label {
        scene.refuses("a.b.example.com", "/", 404).await?;
    }
    Ok(())
}

/// A host or path without a route answers 404.
pub async fn a_host_without_a_route_answers_404(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::of(fixture, "main", HOST, "/api");
    scene.refuses(HOST, "/api", 404).await?;
    let server = scene.serve("a").await?;
    scene.to(&[&server]).await?;
    scene.refuses("other.example.com", "/api", 404).await?;
    scene.refuses(HOST, "/", 404).await
}

/// The path prefix is taken off before forwarding, if the route says so.
pub async fn a_prefix_is_stripped_if_asked_for(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::of(fixture, "main", HOST, "/api");
    if !scene.ingress.capabilities().strips {
        pass_over(
            "a_prefix_is_stripped_if_asked_for",
            "the ingress passes paths on as they are",
        );
        return Ok(());
    }
    let server = scene.serve("a").await?;
    let action = Action::Forward {
        targets: vec![target(1, vec![server.endpoint.clone()])],
        strip_prefix: true,
        hold: Duration::ZERO,
    };
    scene.act(action).await?;
    for (path, forwarded) in [
        ("/api", "/"),
        ("/api/", "/"),
        ("/api/x/y", "/x/y"),
        ("/api?q=1", "/?q=1"),
        ("/api/x?q=1", "/x?q=1"),
    ] {
        scene.answers(path, &format!("a {forwarded}")).await?;
    }
    Ok(())
}

/// A redirect has the asked-for status and adds the rest of the path and the query.
pub async fn a_redirect_keeps_the_rest_of_the_path(fixture: &dyn IngressFixture) -> Verdict {
    let mut scene = Scene::of(fixture, "main", HOST, "/old");
    let statuses = scene.ingress.capabilities().redirects;
    let away = ("https://example.org/new", "https://example.org/new/x?q=1");
    let here = ("/new", "/new/x?q=1");
    for (status, (to, location)) in statuses.iter().flat_map(|&s| [(s, away), (s, here)]) {
        let path = "/old/x?q=1";
        let action = Action::Redirect {
            to: to.to_owned(),
            status,
        };
        scene.act(action).await?;
        let reply = fixture.request(HOST, path).await?;
        let found = reply.location.as_deref().map(relative);
        ensure!(
            (reply.status, found) == (status, Some(location)),
            "{path}: expected {status} to {location}, got {reply:?}"
        );
    }
    Ok(())
}

/// A location as a path, if it is one of the usual host, which a request to that host takes for the same.
fn relative(location: &str) -> &str {
    let schemes = ["http://", "https://"];
    let rest = schemes.iter().find_map(|s| location.strip_prefix(s));
    let path = rest.and_then(|rest| rest.strip_prefix(HOST));
    path.filter(|path| path.starts_with('/'))
        .unwrap_or(location)
}
