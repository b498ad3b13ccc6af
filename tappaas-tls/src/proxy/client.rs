use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
};

use http::HeaderValue;

use super::{Context, Tunnel, headers::Origin, vitals::Vitals};

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) context: Arc<Context>,
    pub(super) origin: Origin,
    /// What the peer says about the client before it is believed.
    pub(super) trusted: bool,
    pub(super) vitals: Arc<Vitals>,
    /// What this connection goes on as, once HTTP is over.
    pub(super) tunnel: Mutex<Option<Tunnel>>,
}

impl Client {
    pub(crate) fn new(context: Arc<Context>, peer: SocketAddr, local: SocketAddr) -> Arc<Self> {
        let peer = peer.ip().to_canonical();
        context.totals.open.fetch_add(1, Relaxed);
        context.totals.accepted.fetch_add(1, Relaxed);
        Arc::new(Self {
            origin: origin(peer, local.port()),
            trusted: context.trusted.contains(&peer),
            vitals: Arc::new(Vitals::new()),
            tunnel: Mutex::new(None),
            context,
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.context.totals.open.fetch_sub(1, Relaxed);
    }
}

fn origin(ip: IpAddr, port: u16) -> Origin {
    let value =
        |text: String| HeaderValue::try_from(text).expect("addresses and numbers are header text");
    Origin {
        client: value(ip.to_string()),
        client_quoted: match ip {
            IpAddr::V4(ip) => ip.to_string().into(),
            IpAddr::V6(ip) => format!("\"[{ip}]\"").into(),
        },
        port: value(port.to_string()),
        proto: "http",
    }
}
