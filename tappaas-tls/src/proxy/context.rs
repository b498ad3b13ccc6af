use std::{
    collections::HashSet,
    hash::{BuildHasher, Hasher, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use http::HeaderValue;
use tappaas_core::Clock;
use tokio_util::sync::CancellationToken;

use crate::{
    access_log::AccessLog,
    config::{EdgeConfig, Limits, Timeouts},
    plane::Plane,
};

/// What every request of an edge is served with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) plane: Plane,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) trusted: HashSet<IpAddr>,
    pub(crate) log: Option<AccessLog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) totals: Totals,
    pub(crate) leave: Leave,
    request_ids: RequestIds,
}

/// What an edge has done that belongs to no route.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Client connections taken, ever.
    pub(crate) accepted: AtomicU64,
    /// Client connections open now.
    pub(crate) open: AtomicU64,
    /// Client connections closed because they were slow or silent.
    pub(crate) timed_out: AtomicU64,
    /// Requests answered without a route: malformed, or for an unknown host.
    pub(crate) unrouted: AtomicU64,
    /// Connections that an endpoint refused or did not take in time.
    pub(crate) refused: AtomicU64,
}

/// Tells connections that they are the last ones of this edge.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    /// Read by every request, where the token's lock would be shared by all of them.
    flag: AtomicBool,
    token: CancellationToken,
}

impl Leave {
    pub(crate) fn now(&self) {
        self.flag.store(true, Relaxed);
        self.token.cancel();
    }

    pub(crate) fn leaving(&self) -> bool {
        self.flag.load(Relaxed)
    }

    /// A token for one task, which has a lock of its own.
    pub(crate) fn token(&self) -> CancellationToken {
        self.token.child_token()
    }
}

impl Context {
    pub(crate) fn new(config: &EdgeConfig, log: Option<AccessLog>, clock: Arc<dyn Clock>) -> Self {
        Self {
            plane: Plane::new(),
            timeouts: config.timeouts.clone(),
            limits: config.limits.clone(),
            trusted: config.trusted_proxies.iter().copied().collect(),
            log,
            clock,
            totals: Totals::default(),
            leave: Leave::default(),
            request_ids: RequestIds::default(),
        }
    }

    /// A request id never given before, 32 hexadecimal digits.
    pub(crate) fn request_id(&self) -> HeaderValue {
        self.request_ids.next()
    }
}

#[derive(Debug)]
struct RequestIds {
    /// Different for each edge that ever ran, as far as a random number can be.
    edge: u64,
    count: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        // The standard library's hash maps are keyed by the operating system's randomness; an id needs no more than that.
        Self {
            edge: RandomState::new().build_hasher().finish(),
            count: AtomicU64::new(0),
        }
    }
}

impl RequestIds {
    fn next(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let id = u128::from(self.edge) << 64 | u128::from(self.count.fetch_add(1, Relaxed));
        let digits: [u8; 32] =
            std::array::from_fn(|place| DIGITS[(id >> (124 - 4 * place)) as usize & 15]);
        HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}
