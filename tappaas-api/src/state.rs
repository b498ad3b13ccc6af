use std::{sync::Arc, time::Duration};

use tappaas_core::platform::Platform;
use tokio::sync::mpsc;

use crate::{
    Metrics,
    types::{Stop, Version},
};

/// What the API works with.
#[derive(Clone, Debug)]
pub struct State {
    /// The platform that carries requests out.
    pub platform: Platform,
    /// What `/version` answers.
    pub version: Version,
    /// Who is told to stop the server; room for one message is enough.
    pub stop: mpsc::Sender<Stop>,
    /// What a request may take.
    pub limits: Limits,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
}

/// What a request may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The most bytes of a JSON body.
    pub body: usize,
    /// The most bytes of an uploaded source.
    pub source: u64,
    /// How long an upload may stand still.
    pub idle: Duration,
    /// The most connections at the same time.
    pub connections: usize,
    /// The most commands that run inside instances at the same time.
    pub commands: usize,
    /// How long requests may go on once the server is told to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 1 << 20,
            source: 1 << 30,
            idle: Duration::from_secs(60),
            connections: 1024,
            commands: 64,
            drain: Duration::from_secs(5),
        }
    }
}
