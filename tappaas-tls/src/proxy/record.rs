use std::{
    io::Write,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};
use tappaas_core::backend::Endpoint;
use tokio::time::Instant;

use super::Client;
use crate::plane::{RouteState, Seat};

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
        let Some(log) = &self.client.context.log else {
            return;
        };
        let now = self.client.context.clock.now();
        log.line(now, |line| self.describe(line, self.started.elapsed()));
    }

    /// Writes the rest of a JSON object. The query is left out: it may hold secrets.
    fn describe(&self, line: &mut Vec<u8>, took: Duration) -> std::io::Result<()> {
        line.extend_from_slice(b",\"id\":");
        text(line, self.id.as_bytes())?;
        write!(
            line,
            ",\"client\":\"{}\",\"method\":\"{}\",\"host\":",
            self.client.peer.ip(),
            self.method
        )?;
        text(
            line,
            self.authority.as_ref().map_or(b"", |host| host.as_bytes()),
        )?;
        line.extend_from_slice(b",\"path\":");
        text(line, self.uri.path().as_bytes())?;
        write!(
            line,
            ",\"protocol\":\"{:?}\",\"status\":{},\"bytes\":{},\"complete\":{},\"ms\":{}.{:03}",
            self.version,
            self.status,
            self.bytes,
            self.complete,
            took.as_millis(),
            took.subsec_micros() % 1_000,
        )?;
        if let Some(route) = &self.route {
            write!(line, ",\"route\":\"{}\"", route.label)?;
        }
        if let Some(seat) = &self.seat {
            match seat.upstream().endpoint() {
                Endpoint::Address(address) => write!(line, ",\"endpoint\":\"{address}\"")?,
                Endpoint::Dial { socket, port } => {
                    line.extend_from_slice(b",\"endpoint\":");
                    text(line, format!("{}:{port}", socket.display()).as_bytes())?;
                }
                Endpoint::Service { host, port } => {
                    line.extend_from_slice(b",\"endpoint\":");
                    text(line, format!("{host}:{port}").as_bytes())?;
                }
            }
        }
        line.extend_from_slice(b"}\n");
        Ok(())
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

/// Writes a JSON string, whatever the bytes.
fn text(line: &mut Vec<u8>, bytes: &[u8]) -> std::io::Result<()> {
    let text = String::from_utf8_lossy(bytes);
    serde_json::to_writer(line, &*text).map_err(Into::into)
}
