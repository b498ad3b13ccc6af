use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// How an [`Ingress`](crate::Ingress) runs its edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressConfig {
    /// The edge's own directory: control socket, last table, logs. Made if missing, readable by its owner alone.
    pub state: PathBuf,
    /// Where the edge lives.
    #[serde(default)]
    pub place: Place,
    /// What the edge serves and within which limits.
    #[serde(default)]
    pub edge: EdgeConfig,
}

/// Where an edge lives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Place {
    /// In this process, and no longer than it: for embedders and tests.
    #[default]
    InProcess,
    /// In a process of its own, which outlives this one.
    Process {
        /// The program to start; its `main` calls [`helper_main`](crate::helper_main) first thing.
        helper: PathBuf,
    },
}

/// What an edge serves and within which limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    /// The public HTTP addresses. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Peers whose `X-Request-Id` and `X-Forwarded-*` are believed: load balancers in front of this edge.
    pub trusted_proxies: Vec<IpAddr>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How much there may be.
    pub limits: Limits,
    /// The access log, `access.log` in the state directory; `None` writes none.
    pub access_log: Option<AccessLog>,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))],
            trusted_proxies: Vec::new(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            access_log: Some(AccessLog::default()),
        }
    }
}

/// How long things may take, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// From a client's connection to its first byte.
    pub first_byte_ms: u64,
    /// From the first byte of a request's head to its last.
    pub head_ms: u64,
    /// Between two requests of a client's connection.
    pub idle_ms: u64,
    /// Between two pieces of a request's body, and while a client takes none of the answer.
    pub stall_ms: u64,
    /// To open a connection to an endpoint.
    pub connect_ms: u64,
    /// From sending a request to the head of its answer; `None` waits as long as the client does.
    pub answer_ms: Option<u64>,
    /// How long an unused connection to an endpoint is kept. Keep it below what applications close after (5 s is common).
    pub pool_idle_ms: u64,
    /// How long an upgraded or inner connection may be silent in both directions.
    pub tunnel_idle_ms: u64,
    /// How long an edge that was told to stop, or was taken over, lets connections finish.
    pub drain_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte_ms: 10_000,
            head_ms: 10_000,
            idle_ms: 75_000,
            stall_ms: 60_000,
            connect_ms: 2_000,
            answer_ms: None,
            pool_idle_ms: 4_000,
            tunnel_idle_ms: 3_600_000,
            drain_ms: 3_600_000,
        }
    }
}

/// How much there may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Client connections at one time, inner ones included; more wait in the kernel's queue.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header lines of a request.
    pub headers: usize,
    /// Streams at one time in an HTTP/2 connection.
    pub streams: u32,
    /// Unused connections kept per endpoint.
    pub pool_per_endpoint: usize,
    /// Requests that wait for the first endpoint of one route.
    pub held_per_route: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            head_bytes: 64 * 1024,
            headers: 100,
            streams: 200,
            pool_per_endpoint: 256,
            held_per_route: 1_000,
        }
    }
}

/// The access log's bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    /// A file grown to this size is put aside.
    pub file_bytes: u64,
    /// How many files put aside are kept.
    pub kept_files: u32,
    /// Lines wait in memory up to this size; more are dropped and counted.
    pub queue_bytes: usize,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            kept_files: 4,
            queue_bytes: 4 << 20,
        }
    }
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
