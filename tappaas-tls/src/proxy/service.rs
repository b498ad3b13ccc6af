use std::{
    convert::Infallible,
    sync::{Arc, PoisonError},
};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, LOCATION},
    uri::{Parts, PathAndQuery},
};
use hyper::body::Incoming;

use super::{
    Client,
    body::Body,
    forward::forward,
    headers::{Claimed, X_REQUEST_ID},
    host,
    pages::{Fault, wants_html},
    path::normalise,
    record::Record,
};
use crate::plane::{Handling, Redirect, RouteState, Router};

/// Answers one request of a client.
pub(super) async fn answer(
    client: Arc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let claimed = if client.trusted {
        Claimed::read(request.headers())
    } else {
        Claimed::default()
    };
    let id = claimed
        .request_id
        .clone()
        .unwrap_or_else(|| client.context.request_id());
    let mut record = Record::begin(&client, &request, id);
    let html = wants_html(request.headers());
    let http1 = request.version() < Version::HTTP_2;
    let answered = match read(&mut request, &mut record) {
        Ok(authority) => respond(&client, request, authority, claimed, &mut record).await,
        Err(fault) => Err(fault),
    };
    let mut response = answered.unwrap_or_else(|fault| fault.page(html, &record.id));
    record.answered(response.status());
    if let Some(tunnel) = &mut *client.tunnel.lock().unwrap_or_else(PoisonError::into_inner) {
        tunnel.record = Some(record);
        return Ok(response);
    }
    if http1 && client.context.leave.leaving() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| body.recorded(record)))
}

/// Checks what the request is for, and leaves in its URI exactly the path that is routed on and forwarded.
fn read(request: &mut Request<Incoming>, record: &mut Record) -> Result<HeaderValue, Fault> {
    let malformed = |fault: &dyn std::fmt::Display| Fault::Malformed(fault.to_string());
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Fault::Method);
    }
    let authority = host::authority(request.uri(), request.headers(), request.version())
        .map_err(|fault| malformed(&fault))?;
    record.authority = Some(authority.clone());
    let path = normalise(request.uri().path()).map_err(|fault| malformed(&fault))?;
    let uri = request.uri();
    let unchanged = matches!(path, std::borrow::Cow::Borrowed(_));
    if unchanged && uri.authority().is_none() {
        return Ok(authority);
    }
    let target = match uri.path_and_query() {
        Some(target) if unchanged => target.clone(),
        _ => with_query(&path, uri.query())
            .ok_or_else(|| Fault::Malformed("its path is malformed".to_owned()))?,
    };
    *request.uri_mut() = origin_form(target);
    Ok(authority)
}

async fn respond(
    client: &Arc<Client>,
    request: Request<Incoming>,
    authority: HeaderValue,
    claimed: Claimed,
    record: &mut Record,
) -> Result<Response<Body>, Fault> {
    let route = locate(
        &client.context.plane.router(),
        &authority,
        request.uri().path(),
    )?;
    record.routed(&route);
    match &route.handling {
        Handling::Redirect(to) => Ok(redirect(to, request.uri(), &record.id)),
        Handling::Forward(_) => forward(client, route, request, authority, claimed, record).await,
    }
}

/// Looks up the route of an authority and a path.
pub(super) fn locate(
    router: &Router,
    authority: &HeaderValue,
    path: &str,
) -> Result<Arc<RouteState>, Fault> {
    let host = host::host(authority).map_err(|fault| Fault::Malformed(fault.to_string()))?;
    match router.find(&host, path) {
        crate::plane::Found::Route(route) => Ok(Arc::clone(route)),
        crate::plane::Found::NoHost => Err(Fault::UnknownHost(host.into_owned())),
        crate::plane::Found::NoPath => Err(Fault::UnknownPath(host.into_owned())),
    }
}

/// The URI without a route's prefix.
pub(super) fn stripped(uri: &Uri, prefix: usize) -> Option<Uri> {
    let rest = uri.path().get(prefix..)?;
    // What is left must not start with `//`: the next reader could take it for another host.
    let path = format!("/{}", rest.trim_start_matches('/'));
    with_query(&path, uri.query()).map(origin_form)
}

fn with_query(path: &str, query: Option<&str>) -> Option<PathAndQuery> {
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(target)).ok()
}

fn origin_form(target: PathAndQuery) -> Uri {
    let mut parts = Parts::default();
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).unwrap_or_default()
}

fn redirect(redirect: &Redirect, uri: &Uri, id: &HeaderValue) -> Response<Body> {
    let rest = uri.path().get(redirect.prefix..).unwrap_or_default();
    let rest = if redirect.to.is_empty() {
        format!("/{}", rest.trim_start_matches('/'))
    } else {
        rest.to_owned()
    };
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::FOUND);
    if let Ok(location) = HeaderValue::try_from(format!("{}{rest}{query}", redirect.to)) {
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert(X_REQUEST_ID, id.clone());
    response
}
