use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::{net::TcpStream, time::Instant};

use crate::{
    config::ms,
    plane::{RouteState, Router, Ticket},
    proxy::{Context, Fault, Seating, tunnel},
    upstream::connect,
};

/// Joins a connection to an inner address with one to an endpoint of its route.
///
/// It counts as a request that is answered when the endpoint takes it, and as in flight until it closes.
pub(crate) async fn relay(stream: TcpStream, listen: SocketAddr, context: Arc<Context>) {
    let locate = |router: &Router| router.inner.get(&listen).cloned().ok_or(Fault::NoEndpoint);
    let Ok(route) = locate(&context.plane.router()) else {
        return;
    };
    let mut passage = Passage::begin(route);
    let mut seating = Seating::new(&context, Arc::clone(&passage.route));
    let started = Instant::now();
    let status = loop {
        let seated = seating.ticket(locate).await;
        passage.follow(&seating.route);
        let ticket = match seated {
            Ok(Some(ticket)) => ticket,
            Ok(None) => break Fault::Refused.status().as_u16(),
            Err(fault) => break fault.status().as_u16(),
        };
        let health = &ticket.seat().upstream().health;
        match connect(
            ticket.seat().upstream().endpoint(),
            ms(context.timeouts.connect_ms),
        )
        .await
        {
            Err(_) => {
                health.refused(context.plane.now_ms());
                seating.refused(&ticket);
            }
            Ok(endpoint) => {
                health.accepted();
                passage.route.stats.answered(200, started.elapsed());
                return passage.run(stream, endpoint, ticket, &context).await;
            }
        }
    };
    passage.route.stats.answered(status, started.elapsed());
}

/// A connection on its way through, counted to its route.
struct Passage {
    route: Arc<RouteState>,
}

impl Passage {
    fn begin(route: Arc<RouteState>) -> Self {
        route.stats.in_flight.fetch_add(1, Relaxed);
        Self { route }
    }

    /// The address may have become another route's while waiting.
    fn follow(&mut self, route: &Arc<RouteState>) {
        if !Arc::ptr_eq(&self.route, route) {
            *self = Self::begin(Arc::clone(route));
        }
    }

    async fn run(self, client: TcpStream, endpoint: TcpStream, _ticket: Ticket, context: &Context) {
        // A connection without its options still works.
        let _ = client.set_nodelay(true);
        let (moved, _) = tunnel(client, endpoint, ms(context.timeouts.tunnel_idle_ms)).await;
        self.route.stats.sent_bytes.fetch_add(moved, Relaxed);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.route.stats.in_flight.fetch_sub(1, Relaxed);
    }
}
