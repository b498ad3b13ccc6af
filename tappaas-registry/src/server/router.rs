use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Query, Request, State},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tappaas_core::{Ids, backend::Reference};

use super::{
    blobs, body::Incoming, endpoint::Endpoint, failure::Failure, manifests, sessions::Sessions,
    uploads,
};
use crate::Store;

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(super) const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The distribution API over a store, everything below `/v2/`.
///
/// Anybody who can reach it can do anything: it has no authentication. Uploads in progress belong to the router and end
/// with it.
pub fn router(store: Store, ids: Arc<dyn Ids>) -> Router {
    Router::new()
        .route("/v2", get(version))
        .route("/v2/", get(version))
        .route("/v2/{*path}", any(handle))
        .with_state(Arc::new(Sessions::new(store, ids)))
}

/// What nodes need of the distribution API to pull images by their digests, and nothing else of it.
///
/// Whoever can reach it gets what they know the digest of. It neither changes anything nor tells what there is: no tags, no lists.
pub fn pulls(store: Store) -> Router {
    Router::new()
        .route("/v2", get(version))
        .route("/v2/", get(version))
        .route("/v2/{*path}", get(pull))
        .with_state(store)
}

async fn pull(State(store): State<Store>, Path(path): Path<String>, request: Request) -> Response {
    let parts = Parts {
        method: request.method().clone(),
        headers: request.headers().clone(),
        queries: Vec::new(),
    };
    let answer = match Endpoint::parse(&path) {
        Ok(Endpoint::Blob(repository, digest)) => {
            blobs::read(&store, &repository, &digest, &parts).await
        }
        Ok(Endpoint::Manifest(repository, reference @ Reference::Digest(_))) => {
            manifests::read(&store, &repository, &reference, &parts).await
        }
        Ok(_) => Err(Failure::unsupported(
            "images are pulled by their digests here",
        )),
        Err(failure) => Err(failure.into_not_found()),
    };
    answer.unwrap_or_else(Failure::into_response)
}

/// What handlers need of a request besides its body.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    queries: Vec<(String, String)>,
}

impl Parts {
    /// The first value of a query parameter.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.queries(name).next()
    }

    /// All values of a query parameter.
    pub(super) fn queries(&self, name: &str) -> impl Iterator<Item = &str> {
        self.queries
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Headers out of text that has been checked to be printable; what is not is left out.
pub(super) fn headers<const N: usize>(pairs: [(HeaderName, &str); N]) -> HeaderMap {
    pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name, HeaderValue::from_str(value).ok()?)))
        .collect()
}

async fn version() -> Response {
    headers([(API_VERSION, "registry/2.0")]).into_response()
}

async fn handle(
    State(sessions): State<Arc<Sessions>>,
    Path(path): Path<String>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let body = Incoming::new(body, sessions.store().limits().body_pause());
    let queries = Query::<Vec<(String, String)>>::try_from_uri(&head.uri);
    let answer = match (Endpoint::parse(&path), queries) {
        // What cannot have a name is not there.
        (Err(failure), _) if head.method.is_safe() => Err(failure.into_not_found()),
        (Err(failure), _) => Err(failure),
        (_, Err(_)) => Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "UNSUPPORTED",
            "query is malformed",
        )),
        (Ok(endpoint), Ok(Query(queries))) => {
            let parts = Parts {
                method: head.method,
                headers: head.headers,
                queries,
            };
            dispatch(&sessions, endpoint, &parts, body).await
        }
    };
    answer.unwrap_or_else(Failure::into_response)
}

async fn dispatch(
    sessions: &Sessions,
    endpoint: Endpoint,
    parts: &Parts,
    body: Incoming,
) -> Result<Response, Failure> {
    let store = sessions.store();
    match (parts.method.as_str(), endpoint) {
        ("GET" | "HEAD", Endpoint::Blob(repository, digest)) => {
            blobs::read(store, &repository, &digest, parts).await
        }
        ("DELETE", Endpoint::Blob(repository, digest)) => {
            blobs::delete(store, &repository, &digest).await
        }
        ("GET" | "HEAD", Endpoint::Manifest(repository, reference)) => {
            manifests::read(store, &repository, &reference, parts).await
        }
        ("PUT", Endpoint::Manifest(repository, reference)) => {
            manifests::write(store, &repository, &reference, parts, body).await
        }
        ("DELETE", Endpoint::Manifest(repository, reference)) => {
            manifests::delete(store, &repository, &reference).await
        }
        ("GET", Endpoint::Tags(repository)) => {
            manifests::list_tags(store, &repository, parts).await
        }
        ("POST", Endpoint::Uploads(repository)) => {
            uploads::begin(sessions, repository, parts, body).await
        }
        (method @ ("GET" | "PATCH" | "PUT" | "DELETE"), Endpoint::Upload(repository, id)) => {
            let session = sessions.find(&repository, &id)?;
            match method {
                "GET" => Ok(uploads::status(&session)),
                "PATCH" => uploads::append(sessions, &session, parts, body).await,
                "PUT" => uploads::finish(sessions, &session, parts, body).await,
                _ => Ok(uploads::cancel(sessions, &session).await),
            }
        }
        (_, endpoint) => Err(Failure::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "UNSUPPORTED",
            "endpoint has no such method",
        )
        .with(header::ALLOW, HeaderValue::from_static(endpoint.allow()))),
    }
}
