use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use tappaas_api::{Metrics, MetricsSource, admin};
use tappaas_core::{Error, platform::Platform};
use tower::ServiceExt as _;

use crate::world::World;

async fn ask(platform: &Platform, metrics: &Arc<Metrics>, path: &str) -> (StatusCode, String) {
    let router = admin::router(platform.clone(), metrics.clone());
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_server_is_alive_at_once_and_ready_when_its_caches_are() {
    let world = World::new().await;
    let metrics = &world.state.metrics;
    let ready = world.state.platform.clone();
    assert_eq!(ask(&ready, metrics, "/readyz").await.0, StatusCode::OK);

    let clock = ready.clock().clone();
    let ids = Arc::new(tappaas_core::memory::Ids::new());
    let idle = Platform::new(
        ready.backends().clone(),
        ready.settings().clone(),
        clock,
        ids,
    )
    .unwrap();
    assert_eq!(ask(&idle, metrics, "/healthz").await.0, StatusCode::OK);
    let (status, body) = ask(&idle, metrics, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("the caches are not in sync"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn the_figures_are_those_of_the_platform_of_the_api_and_of_others() {
    let world = World::new().await;
    world.serving("").await;
    world.get("/version").await;
    world.get("/nothing").await;
    let (status, text) = ask(&world.state.platform, &world.state.metrics, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    for line in [
        r#"tappaas_objects{kind="Application"} 1"#,
        r#"tappaas_objects{kind="HostClaim"} 1"#,
        r#"tappaas_applications{phase="running"} 1"#,
        r#"tappaas_builds{phase="succeeded"} 1"#,
        r#"tappaas_operations{state="succeeded"} 1"#,
        r#"tappaas_instances{state="ready"} 1"#,
        r#"tappaas_api_requests_total{method="GET",route="/version",status="200"} 1"#,
        r#"tappaas_api_requests_total{method="GET",route="none",status="404"} 1"#,
    ] {
        assert!(
            text.lines().any(|other| other == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(
        text.contains("/applications/{application}"),
        "routes are told by their templates"
    );
    assert!(
        text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1,
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn others_figures_are_added_and_their_failures_counted() {
    let world = World::new().await;
    let sources = vec![
        MetricsSource::new("edge", async || {
            Ok("# TYPE tappaas_edge_x gauge\ntappaas_edge_x 1\n# EOF\n".to_owned())
        }),
        MetricsSource::new("broken", async || Err(Error::unavailable("no"))),
        MetricsSource::new("slow", async || std::future::pending().await),
    ];
    let client = world.state.platform.client();
    let metrics = Arc::new(Metrics::new(client, sources));
    ask(&world.state.platform, &metrics, "/metrics").await;
    let (_, text) = ask(&world.state.platform, &metrics, "/metrics").await;
    assert!(text.contains("\ntappaas_edge_x 1\n"), "{text}");
    for source in ["broken", "slow"] {
        let line = format!("tappaas_metrics_failures_total{{source=\"{source}\"}} ");
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    assert_eq!(text.matches("# EOF").count(), 1, "{text}");
}
