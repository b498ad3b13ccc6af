use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use crate::upstream::Upstream;

/// An endpoint's place in one route, and how much of that route is in flight there.
///
/// The acknowledgement of a table swap promises that nothing new goes to a seat taken out. It holds because a request first raises
/// `in_flight` and then reads `retired`, while the swap first sets `retired` and then reads `in_flight`, all sequentially consistent:
/// either the request sees that the seat is retired and leaves without a byte sent, or the swap sees the request counted.
#[derive(Debug)]
pub(crate) struct Seat {
    upstream: Arc<Upstream>,
    in_flight: AtomicU64,
    retired: AtomicBool,
}

impl Seat {
    pub(crate) fn new(upstream: Arc<Upstream>) -> Arc<Self> {
        Arc::new(Self {
            upstream,
            in_flight: AtomicU64::new(0),
            retired: AtomicBool::new(false),
        })
    }

    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(SeqCst)
    }

    /// Counts a request in, or returns `None` if the seat is no longer in the newest table.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Ticket> {
        self.in_flight.fetch_add(1, SeqCst);
        let ticket = Ticket(Arc::clone(self));
        (!self.retired.load(SeqCst)).then_some(ticket)
    }

    /// Lets nothing new in (`true`), or again (`false`).
    pub(super) fn retire(&self, retired: bool) {
        self.retired.store(retired, SeqCst);
    }
}

/// Something in flight at a seat: a request until its answer is through, an upgraded or inner connection until it closes.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Seat>);

impl Ticket {
    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.0
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
    }
}
