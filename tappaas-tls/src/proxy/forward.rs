use std::{
    io,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, UPGRADE},
};
use http_body::Body as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tokio::time::timeout;

use super::{
    Client, Context, Tunnel,
    body::Body,
    headers::{Claimed, X_REQUEST_ID, clean_answer, clean_request},
    pages::Fault,
    record::Record,
    seating::Seating,
    service::{locate, stripped},
};
use crate::{
    config::ms,
    plane::{Handling, RouteState, Ticket},
    upstream::{Link, Outbound, Reply},
};

/// Sends a request to an endpoint of its route and returns the answer, whose body is still to come.
pub(super) async fn forward(
    client: &Arc<Client>,
    route: Arc<RouteState>,
    mut request: Request<Incoming>,
    authority: HeaderValue,
    claimed: Claimed,
    record: &mut Record,
) -> Result<Response<Body>, Fault> {
    let context = &client.context;
    let asks_upgrade =
        request.version() == Version::HTTP_11 && request.headers().contains_key(UPGRADE);
    let on_upgrade = asks_upgrade.then(|| hyper::upgrade::on(&mut request));
    let (mut head, body) = request.into_parts();
    let upgrade = clean_request(&mut head.headers).filter(|_| asks_upgrade);
    client
        .origin
        .describe(&mut head.headers, &authority, claimed);
    frame(&mut head.headers, &body);
    head.headers.insert(X_REQUEST_ID, record.id.clone());
    head.headers.insert(HOST, authority.clone());
    if let Some(protocol) = &upgrade {
        head.headers.insert(UPGRADE, protocol.clone());
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    head.version = Version::HTTP_11;
    head.extensions.clear();
    let seating = Seating::new(context, route);
    let mut call = Call {
        context,
        authority,
        uri: std::mem::take(&mut head.uri),
        seating,
    };
    let request = Request::from_parts(head, Outbound::new(body, ms(context.timeouts.stall_ms)));
    let (response, link, ticket) = call.send(request, record).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(
            client,
            response,
            link,
            ticket,
            upgrade.and(on_upgrade),
            record,
        )
        .await;
    }
    let (mut head, body) = response.into_parts();
    clean_answer(&mut head.headers);
    head.headers.insert(X_REQUEST_ID, record.id.clone());
    let reply = Reply::new(body, link, ticket, context.limits.pool_per_endpoint);
    head.version = Version::HTTP_11;
    Ok(Response::from_parts(head, Body::reply(reply)))
}

/// States the length that the body really has, once, or nothing: what the client wrote about it went no further than here.
fn frame(headers: &mut HeaderMap, body: &Incoming) {
    if headers.remove(CONTENT_LENGTH).is_some()
        && let Some(length) = body.size_hint().exact()
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

/// One request's way to an endpoint.
struct Call<'a> {
    context: &'a Context,
    authority: HeaderValue,
    /// As routed on; the route may take a prefix off.
    uri: Uri,
    seating: Seating<'a>,
}

type Answer = (Response<Incoming>, Box<Link>, Ticket);

impl Call<'_> {
    /// Sends the request: at another endpoint if one takes no connection, and once more if a connection ends without an answer and to
    /// send it twice is the same as once (RFC 9110, section 9.2.2).
    async fn send(
        &mut self,
        mut request: Request<Outbound>,
        record: &mut Record,
    ) -> Result<Answer, Fault> {
        let mut fresh = false;
        let mut refusal = Fault::Refused;
        while let Some(ticket) = self.ticket(record).await? {
            let mut link = match self.link(&ticket, fresh).await {
                Ok(link) => link,
                Err(error) => {
                    if error.kind() == io::ErrorKind::TimedOut {
                        refusal = Fault::ConnectTimedOut;
                    }
                    self.seating.refused(&ticket);
                    continue;
                }
            };
            *request.uri_mut() = self.target();
            let spare = spare(&request);
            let unsent = match self.answer_within(link.send(request)).await? {
                Ok(response) => return Ok((response, link, ticket)),
                Err(unsent) => *unsent,
            };
            // A new connection that took not a byte is as good as refused. A kept one may have died before it saw the request, and its
            // endpoint be well: the next one is new.
            request = match (unsent.request, spare) {
                (Some(request), _) if !link.reused => {
                    self.seating.refused(&ticket);
                    request
                }
                (Some(request), _) if !fresh => request,
                (None, Some(request)) if !fresh && !unsent.error.is_parse() => {
                    if !link.reused {
                        self.seating.left(&ticket);
                        refusal = Fault::NoAnswer;
                    }
                    request
                }
                _ => return Err(no_answer(&unsent.error)),
            };
            fresh = true;
            self.seating.route.stats.retries.fetch_add(1, Relaxed);
        }
        Err(refusal)
    }

    async fn ticket(&mut self, record: &mut Record) -> Result<Option<Ticket>, Fault> {
        let before = Arc::clone(&self.seating.route);
        let (authority, path) = (&self.authority, self.uri.path());
        let ticket = self
            .seating
            .ticket(|router| locate(router, authority, path))
            .await?;
        if !Arc::ptr_eq(&before, &self.seating.route) {
            record.routed(&self.seating.route);
        }
        record.seat = ticket.as_ref().map(|ticket| Arc::clone(ticket.seat()));
        Ok(ticket)
    }

    /// Takes up a kept connection, or opens one.
    async fn link(&self, ticket: &Ticket, fresh: bool) -> io::Result<Box<Link>> {
        let upstream = ticket.seat().upstream();
        if !fresh && let Some(link) = upstream.reuse() {
            return Ok(link);
        }
        let now_ms = || self.context.plane.now_ms();
        Box::pin(upstream.dial(&self.context.timeouts, now_ms)).await
    }

    fn target(&self) -> Uri {
        match &self.seating.route.handling {
            Handling::Forward(forward) if forward.strip > 0 => stripped(&self.uri, forward.strip),
            _ => None,
        }
        .unwrap_or_else(|| self.uri.clone())
    }

    async fn answer_within<T>(&self, answer: impl Future<Output = T>) -> Result<T, Fault> {
        match self.context.timeouts.answer_ms {
            Some(limit) => timeout(ms(limit), answer)
                .await
                .map_err(|_| Fault::AnswerTimedOut),
            None => Ok(answer.await),
        }
    }
}

/// A copy to send again, if sending it twice is the same as once.
fn spare(request: &Request<Outbound>) -> Option<Request<Outbound>> {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    if !(idempotent && request.body().is_empty()) || request.headers().contains_key(UPGRADE) {
        return None;
    }
    let mut spare = Request::new(Outbound::Empty);
    *spare.method_mut() = request.method().clone();
    *spare.uri_mut() = request.uri().clone();
    *spare.headers_mut() = request.headers().clone();
    Some(spare)
}

fn no_answer(error: &hyper::Error) -> Fault {
    if error.is_user() {
        // The client's body broke off or stalled.
        return Fault::Malformed("its body was not sent whole".to_owned());
    }
    tracing::debug!(error = %tappaas_core::Chain(error), "no answer from an endpoint");
    Fault::NoAnswer
}

/// Passes a 101 on, and makes the two connections one.
async fn switch(
    client: &Arc<Client>,
    response: Response<Incoming>,
    link: Box<Link>,
    ticket: Ticket,
    on_upgrade: Option<OnUpgrade>,
    record: &Record,
) -> Result<Response<Body>, Fault> {
    // An endpoint that switches unasked would speak another protocol to a client that expects an answer.
    let Some(on_upgrade) = on_upgrade else {
        return Err(Fault::NoAnswer);
    };
    let endpoint = link.upgrade().await.map_err(|_| Fault::NoAnswer)?;
    let (mut head, _) = response.into_parts();
    let protocol = head.headers.remove(UPGRADE);
    clean_answer(&mut head.headers);
    head.headers
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        head.headers.insert(UPGRADE, protocol);
    }
    head.headers.insert(X_REQUEST_ID, record.id.clone());
    let tunnel = Tunnel {
        client: on_upgrade,
        endpoint,
        _ticket: ticket,
        record: None,
    };
    *client.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    Ok(Response::from_parts(head, Body::empty()))
}
