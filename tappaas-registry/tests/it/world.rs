//! A registry with a server on loopback, a client that knows nothing but HTTP, and a clock that is told the time.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tappaas_core::{Clock, Digest, Ids, Timestamp};
use tappaas_registry::{Config, Limits, Store, server};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot};

/// Stands at the time of its making, plus what it is told.
#[derive(Debug)]
pub(crate) struct TestClock(Mutex<Timestamp>);

impl TestClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the files' own times come from the kernel's clock"
    )]
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Timestamp::now())))
    }

    pub(crate) fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_add(by).unwrap();
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[derive(Debug, Default)]
pub(crate) struct TestIds(AtomicU64);

impl Ids for TestIds {
    fn unique(&self) -> String {
        format!("id-{}", self.0.fetch_add(1, Ordering::Relaxed))
    }
}

pub(crate) async fn open(path: &Path) -> Store {
    Store::open(Config::new(path), TestClock::new())
        .await
        .unwrap()
}

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) address: SocketAddr,
    pub(crate) directory: TempDir,
    client: Client<HttpConnector, Full<Bytes>>,
    _stop: oneshot::Sender<()>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::limited(Limits::default()).await
    }

    pub(crate) async fn limited(limits: Limits) -> Self {
        let directory = TempDir::new().unwrap();
        let clock = TestClock::new();
        let config = Config {
            path: directory.path().join("registry"),
            limits,
        };
        let store = Store::open(config, clock.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = server::router(store.clone(), Arc::new(TestIds::default()));
        let (stop, stopped) = oneshot::channel::<()>();
        let connections_max = store.limits().connections_max;
        tokio::spawn(server::serve(listener, router, connections_max, async {
            let _dropped = stopped.await;
        }));
        Self {
            store,
            clock,
            address,
            directory,
            client: Client::builder(TokioExecutor::new()).build_http(),
            _stop: stop,
        }
    }

    /// The same store again, served to nodes, and what ends that.
    pub(crate) async fn pulls(&self) -> (SocketAddr, oneshot::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let router = server::pulls(self.store.clone());
        tokio::spawn(server::serve(listener, router, 16, async {
            let _dropped = stopped.await;
        }));
        (address, stop)
    }

    /// Where the store keeps its files.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("registry")
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        self.send_to(self.address, method, path, headers, body)
            .await
    }

    pub(crate) async fn send_to(
        &self,
        address: SocketAddr,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        Reply {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn head(&self, path: &str) -> Reply {
        self.send(Method::HEAD, path, &[], "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.send(Method::POST, path, &[], body).await
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.send(Method::PUT, path, &[], body).await
    }

    /// Begins an upload and returns where it goes on.
    pub(crate) async fn begin(&self, repository: &str) -> String {
        let begun = self
            .post(&format!("/v2/{repository}/blobs/uploads/"), "")
            .await;
        begun.is(StatusCode::ACCEPTED).header("location")
    }

    /// Pushes a blob in one request.
    pub(crate) async fn push_blob(&self, repository: &str, content: &Bytes) -> Digest {
        let digest = Digest::of(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.post(&path, content.clone())
            .await
            .is(StatusCode::CREATED);
        digest
    }

    /// Pushes a document as a manifest of the type it says.
    pub(crate) async fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        document: &Value,
    ) -> Reply {
        let media_type = document["mediaType"].as_str().unwrap().to_owned();
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.send(
            Method::PUT,
            &path,
            &[("content-type", &media_type)],
            document.to_string(),
        )
        .await
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    #[track_caller]
    pub(crate) fn is(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Requires an error in the specification's shape.
    #[track_caller]
    pub(crate) fn fails(self, status: StatusCode, code: &str) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json");
        let body = self.json();
        assert_eq!(body["errors"][0]["code"], code, "{body}");
        assert!(!body["errors"][0]["message"].as_str().unwrap().is_empty());
        self
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> String {
        let value = self
            .headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.to_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}
