use std::sync::{Arc, atomic::Ordering::Relaxed};

use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};
use tokio::time::Instant;

use super::Client;
use crate::{
    access_log::Line,
    plane::{RouteState, Seat},
};

/// The status in the access log when the client left before there was an answer.
const CLIENT_LEFT: u16 = 499;

/// One request, from its head to the end of its answer or until the client leaves; counted and logged when dropped.
#[derive(Debug)]
pub(crate) struct Record {
    client: Arc<Client>,
    started: Instant,
    pub(super) id: HeaderValue,
    method: Method,
    uri: Uri,
    version: Version,
    pub(super) authority: Option<HeaderValue>,
    route: Option<Arc<RouteState>>,
    pub(super) seat: Option<Arc<Seat>>,
    status: u16,
    pub(super) bytes: u64,
    /// The client has the whole answer, as far as this edge knows.
    pub(super) complete: bool,
}

impl Record {
    pub(super) fn begin<B>(
        client: &Arc<Client>,
        request: &Request<B>,
        id: HeaderValue,
    ) -> Box<Self> {
        client.vitals.begin();
        Box::new(Self {
            client: Arc::clone(client),
            started: Instant::now(),
            id,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            authority: None,
            route: None,
            seat: None,
            status: CLIENT_LEFT,
            bytes: 0,
            complete: false,
        })
    }

    /// Counts the request to a route from now on.
    pub(super) fn routed(&mut self, route: &Arc<RouteState>) {
        self.leave_route();
        route.stats.in_flight.fetch_add(1, Relaxed);
        self.route = Some(Arc::clone(route));
    }

    /// The head of the answer is there.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        match &self.route {
            Some(route) => route.stats.answered(self.status, self.started.elapsed()),
            None => {
                self.client.context.totals.unrouted.fetch_add(1, Relaxed);
            }
        }
    }

    fn leave_route(&mut self) {
        if let Some(route) = self.route.take() {
            route.stats.in_flight.fetch_sub(1, Relaxed);
        }
    }

    fn log(&self) {
        let context = &self.client.context;
        if let Some(log) = &context.log {
            log.line(context.clock.now(), |line| self.describe(line));
        }
    }

    /// Writes what happened. The query is left out: it may hold secrets.
    fn describe(&self, line: &mut Line<'_>) {
        let took = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let host = self
            .authority
            .as_ref()
            .map_or(&b""[..], HeaderValue::as_bytes);
        line.text("id", self.id.as_bytes());
        line.text("client", self.client.origin.client.as_bytes());
        line.text("method", self.method.as_str().as_bytes());
        line.text("host", host);
        line.text("path", self.uri.path().as_bytes());
        line.text("protocol", protocol(self.version));
        line.number("status", self.status.into());
        line.number("bytes", self.bytes);
        line.flag("complete", self.complete);
        line.milliseconds("ms", took);
        if let Some(route) = &self.route {
            line.text("route", route.label.as_bytes());
        }
        if let Some(seat) = &self.seat {
            line.text("endpoint", seat.upstream().label().as_bytes());
        }
    }
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_11 => b"HTTP/1.1",
        Version::HTTP_2 => b"HTTP/2.0",
        _ => b"HTTP",
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(route) = &self.route {
            route.stats.sent_bytes.fetch_add(self.bytes, Relaxed);
            if !self.complete {
                route.stats.abandoned.fetch_add(1, Relaxed);
            }
        }
        self.log();
        self.leave_route();
        self.client.vitals.end();
    }
}
