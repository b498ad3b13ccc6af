use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    Request, Response,
    header::{HOST, LOCATION},
};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tappaas_core::backend::{Endpoint, IngressProvider};
use tappaas_k8s::{Gateway, IngressSettings, KubernetesIngress};
use tappaas_testkit::conformance::{
    Failure, PATIENCE,
    ingress::{Gate, IngressFixture, Reply, Scene, Server},
    until,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, OwnedMutexGuard},
    task::JoinHandle,
};

use crate::node::WallClock;

/// What is left of a case is found by this label.
const LABEL: &str = "tests.tappaas.dev/stage";
/// The environment of the suites' applications.
const ENVIRONMENT: &str =
    "tappaas.dev/tenant=conformance,tappaas.dev/project=default,tappaas.dev/environment=test";

/// The ingress of the one cluster without any route, for one test at a time.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) ingress: Arc<KubernetesIngress>,
    /// Where the environment of the suite's applications is.
    pub(crate) namespace: String,
    pub(crate) client: ClientOf,
    proxy: SocketAddr,
    machine: IpAddr,
    _turn: OwnedMutexGuard<()>,
}

/// A client, which does not tell what it is.
pub(crate) struct ClientOf(pub(crate) Client);

impl std::fmt::Debug for ClientOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientOf")
    }
}

/// Routes as `HTTPRoute`s of the testbed's Gateway.
pub(crate) fn by_gateway() -> IngressSettings {
    IngressSettings {
        gateway: Some(Gateway {
            namespace: "testbed".to_owned(),
            name: "testbed".to_owned(),
            section: None,
        }),
        class: None,
        settle: IngressSettings::SETTLE,
    }
}

/// Routes as `Ingress`es, which the same Contour serves.
pub(crate) fn by_class() -> IngressSettings {
    IngressSettings {
        gateway: None,
        class: Some("contour".to_owned()),
        settle: IngressSettings::SETTLE,
    }
}

impl Stage {
    /// Waits until no other test has it.
    pub(crate) async fn take(settings: IngressSettings) -> Self {
        static TURN: OnceLock<Arc<Mutex<()>>> = OnceLock::new();
        let turn = TURN.get_or_init(Arc::default).clone().lock_owned().await;
        let facts = crate::cluster::facts();
        let client = crate::cluster::client().await;
        let proxy = facts["gateway"].as_str().unwrap();
        let mut stage = Self {
            ingress: connect(&client, settings).await,
            namespace: String::new(),
            client: ClientOf(client),
            proxy: proxy.strip_prefix("http://").unwrap().parse().unwrap(),
            machine: facts["host"].as_str().unwrap().parse().unwrap(),
            _turn: turn,
        };
        stage.clear().await;
        stage
    }

    /// Removes what the test before left, and waits until the proxy has seen that.
    async fn clear(&mut self) {
        let client = &self.client.0;
        self.stand().await;
        until("the proxy listens", async || {
            let reply = self.request("standing.test", "/").await;
            Ok(reply.is_ok_and(|reply| reply.status == 302).then_some(()))
        })
        .await
        .unwrap();
        for settings in [by_gateway(), by_class()] {
            let settle = Duration::ZERO;
            let ingress = connect(client, IngressSettings { settle, ..settings }).await;
            let left = ingress.list().await.unwrap();
            for id in &left {
                ingress.remove(id).await.unwrap();
            }
            if !left.is_empty() || self.namespace.is_empty() {
                // What is made later is served later.
                self.sentinel(ingress).await;
            }
        }
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let ours = ListParams::default().labels(ENVIRONMENT);
        let found = namespaces.list(&ours).await.unwrap().items;
        self.namespace = found[0].metadata.name.clone().unwrap();
        let left = ListParams::default().labels(LABEL);
        let all = DeleteParams::default();
        let services: Api<Service> = Api::namespaced(client.clone(), &self.namespace);
        for service in services.list(&left).await.unwrap() {
            let name = service.metadata.name.unwrap();
            services.delete(&name, &all).await.unwrap();
        }
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &self.namespace);
        slices.delete_collection(&all, &left).await.unwrap();
    }

    /// Makes a route that is nobody's: without any Contour closes its port.
    async fn stand(&self) {
        let routes: Api<DynamicObject> =
            Api::namespaced_with(self.client.0.clone(), "testbed", &http_routes());
        let mut standing = DynamicObject::new("standing", &http_routes());
        standing.data = json!({ "spec": {
            "parentRefs": [{ "name": "testbed" }],
            "hostnames": ["standing.test"],
            "rules": [{ "filters": [{
                "type": "RequestRedirect",
                "requestRedirect": { "hostname": "example.org" },
            }] }],
        } });
        let parameters = PatchParams::apply("tests").force();
        let patch = Patch::Apply(standing);
        let applied = routes.patch("standing", &parameters, &patch).await;
        applied.unwrap();
    }

    async fn sentinel(&self, ingress: Arc<KubernetesIngress>) {
        let host = format!("sentinel-{}.test", unique());
        let mut scene = Scene::of(self, "sentinel", &host, "/");
        scene.ingress = ingress;
        scene.to(&[]).await.unwrap();
        until("the sentinel is seen", async || {
            let reply = self.request(&host, "/").await?;
            Ok((reply.status == 503).then_some(()))
        })
        .await
        .unwrap();
        scene.ingress.remove(&scene.route.id).await.unwrap();
    }

    /// Makes a service that leads to a port of this machine.
    async fn expose(&self, port: u16) -> String {
        let name = format!("server-{}", unique());
        let metadata = |labels: Value| json!({ "name": name, "labels": labels });
        let service = json!({
            "metadata": metadata(json!({ LABEL: "" })),
            "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": port }] },
        });
        let slice = json!({
            "metadata": metadata(json!({ LABEL: "", "kubernetes.io/service-name": name })),
            "addressType": "IPv4",
            "endpoints": [{ "addresses": [self.machine], "conditions": { "ready": true } }],
            "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
        });
        self.create::<Service>(service).await;
        self.create::<EndpointSlice>(slice).await;
        name
    }

    async fn create<K>(&self, object: Value)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.0.clone(), &self.namespace);
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }
}

async fn connect(client: &Client, settings: IngressSettings) -> Arc<KubernetesIngress> {
    let ingress = KubernetesIngress::connect(
        client.clone(),
        crate::cluster::platform(),
        settings,
        Arc::new(WallClock),
    )
    .await;
    Arc::new(ingress.unwrap())
}

pub(crate) fn http_routes() -> ApiResource {
    ApiResource {
        group: "gateway.networking.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "gateway.networking.k8s.io/v1".to_owned(),
        kind: "HTTPRoute".to_owned(),
        plural: "httproutes".to_owned(),
    }
}

/// Told apart from what earlier runs left.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{next}", std::process::id())
}

#[async_trait]
impl IngressFixture for Stage {
    fn ingress(&self) -> Arc<dyn IngressProvider> {
        Arc::clone(&self.ingress) as _
    }

    async fn serve(&self, name: &str, gate: &Gate) -> Result<Server, Failure> {
        let listener = TcpListener::bind((self.machine, 0)).await?;
        let service = self.expose(listener.local_addr()?.port()).await;
        let running = tokio::spawn(accept(listener, name.to_owned(), gate.clone()));
        Ok(Server {
            endpoint: Endpoint::Service {
                host: format!("{service}.{}.svc", self.namespace),
                port: 80,
            },
            running: Box::new(Running(running)),
        })
    }

    async fn request(&self, host: &str, path: &str) -> Result<Reply, Failure> {
        let stream = TcpStream::connect(self.proxy).await?;
        let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let _connection = Running(tokio::spawn(async move {
            connection.await.ok();
        }));
        // Contour's wildcards of an Ingress know no capitals, and browsers send none.
        let host = match self.ingress.capabilities().one_label {
            true => host.to_ascii_lowercase(),
            false => host.to_owned(),
        };
        let request = Request::get(path).header(HOST, &host);
        let request = request.body(Empty::<Bytes>::new())?;
        let answering = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let location = head.headers.get(LOCATION);
            let location = location.map(|value| value.to_str().unwrap().to_owned());
            let body = body.collect().await?.to_bytes();
            Ok::<_, Failure>(Reply {
                status: head.status.as_u16(),
                body: String::from_utf8_lossy(&body).into_owned(),
                location,
            })
        };
        let late = |_| Failure::from(format!("{host}{path} is not answered"));
        let limit = PATIENCE + Duration::from_secs(10);
        tokio::time::timeout(limit, answering).await.map_err(late)?
    }

    async fn request_inside(&self, _: SocketAddr, _: &str) -> Result<Reply, Failure> {
        Err("nothing listens inside".into())
    }

    async fn inner_address(&self) -> Result<SocketAddr, Failure> {
        Ok(([127, 0, 0, 1], 1).into())
    }
}

/// Ends what runs when it is dropped.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn accept(listener: TcpListener, name: String, gate: Gate) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (name, gate) = (name.clone(), gate.clone());
        let service = service_fn(move |request| answer(name.clone(), gate.clone(), request));
        let connection =
            server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
    }
}

async fn answer(
    name: String,
    gate: Gate,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path_and_query().unwrap().as_str();
    if path.starts_with("/held") {
        gate.pass().await;
    }
    let body = format!("{name} {path}");
    Ok(Response::new(Full::new(body.into())))
}
