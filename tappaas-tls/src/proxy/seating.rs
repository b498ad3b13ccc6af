use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{Context, pages::Fault};
use crate::plane::{Forward, Handling, Pick, RouteState, RouteStats, Router, Seat, Ticket, pick};

/// Endpoints offered a request before it is given up.
const ENDPOINTS_TRIED_MAX: usize = 4;
/// Tables that may be replaced between looking and taking a seat before a request is given up.
const STALE_MAX: usize = 64;

/// One request's, or one inner connection's, way to a seat.
#[derive(Debug)]
pub(crate) struct Seating<'a> {
    context: &'a Context,
    /// The route in the newest table looked at.
    pub(crate) route: Arc<RouteState>,
    /// The target drawn, kept from one try to the next.
    chosen: Option<usize>,
    tried: Vec<Arc<Seat>>,
}

impl<'a> Seating<'a> {
    pub(crate) fn new(context: &'a Context, route: Arc<RouteState>) -> Self {
        Self {
            context,
            route,
            chosen: None,
            tried: Vec::new(),
        }
    }

    /// Takes a seat in the newest table, waiting for the route's first endpoint if it may. `None`: those there are were tried.
    ///
    /// `locate` finds the route again when the table was replaced.
    pub(crate) async fn ticket(
        &mut self,
        locate: impl Fn(&Router) -> Result<Arc<RouteState>, Fault>,
    ) -> Result<Option<Ticket>, Fault> {
        if self.tried.len() >= ENDPOINTS_TRIED_MAX {
            return Ok(None);
        }
        let mut hold = None;
        let mut stale = 0;
        loop {
            let Handling::Forward(forward) = &self.route.handling else {
                return Err(Fault::NoEndpoint);
            };
            match pick(
                forward,
                &self.route.stats,
                &mut self.chosen,
                &self.tried,
                self.context.plane.now_ms(),
            ) {
                Pick::Seat(ticket) => return Ok(Some(ticket)),
                Pick::Exhausted => return Ok(None),
                Pick::Empty if !self.tried.is_empty() => return Ok(None),
                Pick::Empty => {
                    Box::pin(wait(self.context, &self.route.stats, forward, &mut hold)).await?;
                }
                Pick::Stale if stale == STALE_MAX => return Err(Fault::NoEndpoint),
                Pick::Stale => stale += 1,
            }
            self.chosen = None;
            self.route = locate(&self.context.plane.router())?;
        }
    }

    /// Notes that an endpoint took no connection, so that another one is tried.
    pub(crate) fn refused(&mut self, ticket: &Ticket) {
        self.context.totals.refused.fetch_add(1, Relaxed);
        self.left(ticket);
    }

    /// Notes that an endpoint went away with a request, so that another one is tried.
    pub(crate) fn left(&mut self, ticket: &Ticket) {
        self.tried.push(Arc::clone(ticket.seat()));
    }
}

/// Waits for a newer table, within what the route allows.
async fn wait(
    context: &Context,
    stats: &Arc<RouteStats>,
    forward: &Forward,
    hold: &mut Option<Hold>,
) -> Result<(), Fault> {
    let hold = match hold {
        Some(hold) => hold,
        None if forward.hold.is_zero() => return Err(Fault::NoEndpoint),
        // The table is looked at once more before waiting, as it may have been replaced before this subscribed.
        None => {
            *hold = Some(Hold::begin(context, stats, forward.hold)?);
            return Ok(());
        }
    };
    match timeout_at(hold.until, hold.generations.changed()).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Fault::NoEndpoint),
    }
}

/// A request waiting for its route's first endpoint.
struct Hold {
    stats: Arc<RouteStats>,
    generations: watch::Receiver<u64>,
    until: Instant,
}

impl Hold {
    fn begin(context: &Context, stats: &Arc<RouteStats>, limit: Duration) -> Result<Self, Fault> {
        if stats.waiting.fetch_add(1, Relaxed) >= context.limits.held_per_route {
            stats.waiting.fetch_sub(1, Relaxed);
            return Err(Fault::TooManyWaiting);
        }
        let generations = context.plane.generations();
        context.plane.demand.notify_waiters();
        Ok(Self {
            stats: Arc::clone(stats),
            generations,
            until: Instant::now() + limit,
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.stats.waiting.fetch_sub(1, Relaxed);
    }
}
