use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tappaas_api::{
    Limits, Metrics, State, router,
    types::{Stop, Version},
};
use tappaas_core::{
    Digest, Name,
    controller::Settings,
    memory::{self, Network},
    model::ApplicationKey,
    platform::{Backends, Platform},
};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

/// Where everything in these tests is.
pub(super) const ENVIRONMENT: &str =
    "/api/v1/tenants/default/projects/default/environments/production";

/// A source that the memory builder builds.
pub(super) const ARCHIVE: &[u8] = b"an archive";

/// The API of a platform in memory, with its controllers running.
pub(super) struct World {
    pub(super) state: State,
    pub(super) registry: Arc<memory::Registry>,
    pub(super) stopped: mpsc::Receiver<Stop>,
    _controllers: AbortOnDropHandle<()>,
}

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The lines of a stream.
    pub(super) fn lines(&self) -> Vec<Value> {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/x-ndjson");
        let text = self.text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The kind of a problem, whose form is checked.
    pub(super) fn kind(&self) -> String {
        assert_eq!(
            self.headers[header::CONTENT_TYPE],
            "application/problem+json",
            "{}",
            self.text()
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["type"], "about:blank");
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        problem["kind"].as_str().unwrap().to_owned()
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(super) async fn with(limits: Limits) -> Self {
        let clock: Arc<memory::Clock> = Arc::new(memory::Clock::new());
        let ids = Arc::new(memory::Ids::new());
        let (network, volumes) = (Network::new(), memory::Volumes::new());
        let registry = Arc::new(memory::Registry::new());
        let scheduler = Arc::new(memory::Scheduler::new(clock.clone(), &network, &volumes));
        let backends = Backends {
            store: Arc::new(memory::Store::new(clock.clone(), ids.clone())),
            builder: Arc::new(memory::Builder::new(clock.clone(), registry.clone())),
            registry: registry.clone(),
            scheduler,
            ingress: Arc::new(memory::Ingress::new(clock.clone(), &network)),
            volumes: Arc::new(volumes),
        };
        let platform = Platform::new(backends, Settings::default(), clock, ids).unwrap();
        let running = platform.clone();
        let controllers = tokio::spawn(async move { running.run().await });
        platform.client().sync().await;
        let [tenant, project, environment] = ["default", "default", "production"].map(name);
        platform
            .create_environment(&tenant, &project, &environment)
            .await
            .unwrap();
        let (stop, stopped) = mpsc::channel(1);
        let state = State {
            metrics: Arc::new(Metrics::new(platform.client(), Vec::new())),
            platform,
            version: Version {
                version: "1.2.3".to_owned(),
                api: "v1".to_owned(),
                ingress: Some("127.0.0.1:8080".to_owned()),
            },
            stop,
            limits,
        };
        Self {
            state,
            registry,
            stopped,
            _controllers: AbortOnDropHandle::new(controllers),
        }
    }

    pub(super) fn router(&self) -> Router {
        router(self.state.clone())
    }

    pub(super) async fn request(&self, request: Request<Body>) -> Answer {
        let response = self.router().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        let request = Request::builder().uri(path).body(Body::empty());
        self.request(request.unwrap()).await
    }

    pub(super) async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()));
        self.request(request.unwrap()).await
    }

    pub(super) async fn upload(&self, path: &str, body: Body) -> Answer {
        let request = Request::builder().method(Method::PUT).uri(path).body(body);
        self.request(request.unwrap()).await
    }

    /// Uploads the archive and deploys it with this manifest.
    pub(super) async fn deploy(&self, manifest: &str) -> Answer {
        let digest = Digest::of(ARCHIVE);
        let path = format!("{}/sources/{digest}", application());
        let uploaded = self.upload(&path, Body::from(ARCHIVE)).await;
        assert_eq!(
            uploaded.status,
            StatusCode::NO_CONTENT,
            "{}",
            uploaded.text()
        );
        let body = json!({ "source": { "upload": { "digest": digest } }, "manifest": manifest });
        self.send(Method::PUT, &application(), &body).await
    }

    /// Waits for what was accepted, and insists that it went well.
    pub(super) async fn succeeded(&self, accepted: &Answer) -> Value {
        assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.text());
        let location = accepted.headers[header::LOCATION].to_str().unwrap();
        let path = format!("{location}/progress");
        let progress = self.get(&path);
        let progress = tokio::time::timeout(Duration::from_secs(3600), progress)
            .await
            .unwrap();
        let last = progress.lines().pop().unwrap();
        assert_eq!(last["operation"]["state"], "succeeded", "{last}");
        last["operation"].clone()
    }

    /// Deploys with this manifest, and waits until it serves.
    pub(super) async fn serving(&self, manifest: &str) {
        let accepted = self.deploy(manifest).await;
        self.succeeded(&accepted).await;
    }
}

pub(super) fn application() -> String {
    format!("{ENVIRONMENT}/applications/shop")
}

pub(super) fn key() -> ApplicationKey {
    "default/default/production/shop".parse().unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
