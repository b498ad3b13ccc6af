use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tappaas_api::types::Kind;

use crate::world::{ENVIRONMENT, World, application};

#[test]
fn each_kind_has_its_status() {
    for (kind, status) in [
        (Kind::AlreadyExists, 409),
        (Kind::Conflict, 409),
        (Kind::Denied, 403),
        (Kind::Exhausted, 429),
        (Kind::Expired, 410),
        (Kind::Internal, 500),
        (Kind::Invalid, 400),
        (Kind::NotFound, 404),
        (Kind::Unavailable, 503),
        (Kind::Unsupported, 501),
    ] {
        assert_eq!(kind.status().as_u16(), status, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_a_problem() {
    let world = World::new().await;
    let app = application();
    let elsewhere = ENVIRONMENT.replace("production", "nowhere");
    for path in [
        "/nothing",
        "/api/v1/nothing",
        &app,
        &format!("{app}/instances"),
        &format!("{app}/logs"),
        &format!("{app}/builds"),
        &format!("{app}/builds/1/logs"),
        &format!("{app}/config"),
        &format!("{app}/releases"),
        &format!("{app}/releases/1/diff/2"),
        &format!("{ENVIRONMENT}/operations/none"),
        &format!("{ENVIRONMENT}/operations/none/progress"),
        &format!("{elsewhere}/applications"),
        &format!("{elsewhere}/volumes"),
    ] {
        let answer = world.get(path).await;
        assert_eq!(
            (answer.status, answer.kind().as_str()),
            (StatusCode::NOT_FOUND, "not-found"),
            "{path}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_application_that_serves_does_not_have_is_a_problem() {
    let world = World::new().await;
    world.serving("").await;
    for path in ["builds/7/logs", "releases/1/diff/7", "releases/7/diff/1"] {
        let answer = world.get(&format!("{}/{path}", application())).await;
        assert_eq!(answer.kind(), "not-found", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_meant_is_a_problem() {
    let world = World::new().await;
    let app = application();
    for path in [
        "/api/v1/tenants/UPPER/projects/default/environments",
        "/api/v1/tenants/..%2f/projects/default/environments",
        &format!("{app}/releases/one/diff/2"),
        &format!("{app}/releases/1/diff/-2"),
        &format!("{app}/logs?folow=true"),
        &format!("{app}/logs?tail=all"),
        &format!("{app}/logs?since=yesterday"),
        &format!("{app}/config?reveal=perhaps"),
    ] {
        let answer = world.get(path).await;
        assert_eq!(
            (answer.status, answer.kind().as_str()),
            (StatusCode::BAD_REQUEST, "invalid"),
            "{path}"
        );
    }
    for (method, path, body) in [
        (Method::PUT, "", json!({})),
        (Method::PUT, "", json!({ "source": { "folder": "/etc" } })),
        (
            Method::PUT,
            "",
            json!({ "source": { "upload": { "digest": "sha256:1" } } }),
        ),
        (
            Method::PUT,
            "",
            json!({ "source": { "image": { "reference": "a" } }, "extra": 1 }),
        ),
        (
            Method::PUT,
            "",
            json!({ "source": { "image": { "reference": "Not An Image" } } }),
        ),
        (Method::POST, "/plan", json!([])),
        (
            Method::PATCH,
            "/scale",
            json!({ "processes": { "web": -1 } }),
        ),
        (
            Method::PATCH,
            "/scale",
            json!({ "processes": { "W E B": 1 } }),
        ),
        (
            Method::PATCH,
            "/config",
            json!({ "set": { "A": "b\u{0}c" } }),
        ),
        (Method::PATCH, "/config", json!({ "set": { "A": 1 } })),
        (Method::PATCH, "/config", json!({ "sets": {} })),
        (Method::POST, "/rollback", json!({ "release": "latest" })),
    ] {
        let answer = world
            .send(method.clone(), &format!("{app}{path}"), &body)
            .await;
        assert_eq!(
            (answer.status, answer.kind().as_str()),
            (StatusCode::BAD_REQUEST, "invalid"),
            "{method} {path} {body}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_manifest_is_answered_with_line_and_caret() {
    let world = World::new().await;
    let answer = world.deploy("[processes.web]\nprot = 1").await;
    assert_eq!(answer.kind(), "invalid");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.starts_with("tappaas.toml:2:1: unknown key `prot`; did you mean `port`?"),
        "{detail}"
    );
    assert!(detail.ends_with("^^^^"), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_is_not_there_is_named() {
    let world = World::new().await;
    let path = application().replace("production", "staging");
    let body = json!({ "source": { "upload": { "digest": tappaas_core::Digest::of("x") } } });
    let answer = world.send(Method::PUT, &path, &body).await;
    assert_eq!(answer.kind(), "not-found");
    let detail = answer.json()["detail"].to_string();
    assert!(detail.contains("tappaas env create staging"), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_something_is_in_is_not_removed() {
    let world = World::new().await;
    world.serving("").await;
    let answer = world.send(Method::DELETE, ENVIRONMENT, &Value::Null).await;
    assert_eq!(
        (answer.status, answer.kind().as_str()),
        (StatusCode::CONFLICT, "conflict")
    );
}

#[tokio::test(start_paused = true)]
async fn a_method_that_a_path_does_not_take_is_a_problem_that_names_those_it_takes() {
    let world = World::new().await;
    let answer = world
        .send(Method::PATCH, &application(), &Value::Null)
        .await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.kind(), "unsupported");
    let mut allowed: Vec<_> = answer.headers[header::ALLOW]
        .to_str()
        .unwrap()
        .split(',')
        .collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "PUT"]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_said_to_be_json_is_refused() {
    let world = World::new().await;
    for media in [None, Some("text/plain"), Some("application/jsonp")] {
        let mut request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("{}/config", application()));
        if let Some(media) = media {
            request = request.header(header::CONTENT_TYPE, media);
        }
        let answer = world.request(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(
            answer.status,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "{media:?}"
        );
        assert_eq!(answer.kind(), "invalid");
    }
}
