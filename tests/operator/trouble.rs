//! A way to the API server on which everything goes wrong that can.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout_at};

use crate::cluster::Cluster;

/// Larger than any object.
const BODY_MAX: usize = 4 << 20;
/// So long a watch lives that is not refused at once.
const WATCH: Duration = Duration::from_secs(3);

/// How often what went wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: u32,
    pub(crate) conflicts: u32,
    pub(crate) lost_replies: u32,
    pub(crate) expired_watches: u32,
}

/// A server between an operator and the API server, which knows nobody's rights: who asks brings its own.
///
/// Every other change of our objects conflicts, and of half of the cluster's; every other creation and removal happens without an answer. Every other watch has expired, and
/// those between them break off. Leases alone are left in peace: who leads is another matter.
pub(crate) struct Trouble {
    pub(crate) server: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    client: Client,
    counts: Mutex<(Counts, HashMap<String, u32>)>,
}

impl Trouble {
    pub(crate) async fn begin(cluster: &Cluster) -> Self {
        let shared = Arc::new(Shared {
            client: nobody(cluster).await,
            counts: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            server,
            shared,
            serving,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.shared.counts.lock().unwrap().0
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A client of the cluster without any rights of its own.
async fn nobody(cluster: &Cluster) -> Client {
    let view = ["config", "view", "--raw", "-o=json"];
    let admin: Value = serde_json::from_str(&cluster.kubectl(&view)).unwrap();
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "it", "cluster": admin["clusters"][0]["cluster"] }],
        "users": [{ "name": "nobody", "user": {} }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "nobody" } }],
        "current-context": "it",
    });
    let config: Kubeconfig = serde_json::from_value(config).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(config, &options).await;
    Client::try_from(config.unwrap()).unwrap()
}

/// What becomes of a request.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Fate {
    BreaksOff,
    Conflicts,
    Expires,
    LosesReply,
    Passes,
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match shared.fate(&request) {
        Fate::BreaksOff => broken_off(pass(&shared, request).await),
        Fate::Conflicts => refused(409, "Conflict"),
        Fate::Expires => {
            let event = json!({ "type": "ERROR", "object": status(410, "Expired") });
            format!("{event}\n").into_response()
        }
        Fate::LosesReply => {
            drop(pass(&shared, request).await);
            refused(504, "Timeout")
        }
        Fate::Passes => pass(&shared, request).await,
    }
}

impl Shared {
    fn fate(&self, request: &Request) -> Fate {
        let (method, path) = (request.method(), request.uri().path());
        let query = request.uri().query().unwrap_or_default();
        let watches = query.split('&').any(|one| one == "watch=true");
        let peaceful = path.contains("/leases/") || path.contains("authorization.k8s.io");
        let mut counts = self.counts.lock().unwrap();
        let turn = counts.1.entry(format!("{method} {path} {watches}"));
        let turn = *turn.and_modify(|turn| *turn += 1).or_insert(1);
        let odd = turn % 2 == 1;
        let changes = [Method::PUT, Method::PATCH].contains(method);
        // What the cluster keeps for us is written once or twice each: were it all, every wait of the controllers would be the longest.
        let spared = method == Method::PATCH && path.len() % 2 == 0;
        let fate = match (watches, odd) {
            _ if peaceful || spared => Fate::Passes,
            (true, true) => Fate::Expires,
            (true, false) => Fate::BreaksOff,
            (false, true) if changes => Fate::Conflicts,
            (false, true) if method != Method::GET => Fate::LosesReply,
            (false, _) => Fate::Passes,
        };
        let counts = &mut counts.0;
        counts.requests += 1;
        counts.conflicts += u32::from(fate == Fate::Conflicts);
        counts.lost_replies += u32::from(fate == Fate::LosesReply);
        counts.expired_watches += u32::from(fate == Fate::Expires);
        fate
    }
}

async fn pass(shared: &Shared, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, BODY_MAX).await.unwrap();
    let request = http::Request::from_parts(head, kube::client::Body::from(body.to_vec()));
    match shared.client.send(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// The same answer, which ends before its time.
fn broken_off(response: Response) -> Response {
    let end = tokio::time::Instant::now() + WATCH;
    response.map(|body| {
        let parts = futures::stream::unfold(body.into_data_stream(), move |mut parts| async move {
            use futures::StreamExt as _;
            let part = timeout_at(end, parts.next()).await.ok()??;
            Some((part, parts))
        });
        Body::from_stream(parts)
    })
}

fn refused(code: u16, reason: &str) -> Response {
    let code_of = StatusCode::from_u16(code).unwrap();
    (code_of, axum::Json(status(code, reason))).into_response()
}

fn status(code: u16, reason: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": "trouble on the way", "reason": reason, "code": code,
    })
}
