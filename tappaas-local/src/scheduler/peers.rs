//! Where instances reach the applications they are bound to.
//!
//! Each pair of an application and a peer has a port between 20000 and 29999, told from a hash of the two and kept in the store. Where
//! root runs instances it is a port of the gateway of the application's network, which the packet filter opens for bindings alone;
//! without a sandbox it is a port of the machine's loopback address. A plain user's sandboxes reach no peers.

use tappaas_core::{
    Batch, Digest, Error, ErrorKind, Result,
    backend::{Peer, PeerAddress},
    model::ApplicationKey,
};

use super::world::World;

const TABLE: &str = "local.peers";
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;
/// Holds an address in an application's network, so that its gateway stays the same while nothing runs.
const ANCHOR: &str = "gateway-";

impl World {
    pub(super) async fn peer(&self, from: &ApplicationKey, peer: &Peer) -> Result<PeerAddress> {
        let host = match &self.ground.networks {
            Some(networks) => networks.attach(&from.label(), &anchor(from)).await?.gateway,
            None if self.ground.host_network() => std::net::Ipv4Addr::LOCALHOST,
            None => {
                return Err(Error::unsupported(
                    "a plain user's sandboxes cannot reach other applications: run the server as root, or choose `--network host`",
                ));
            }
        };
        let port = self.peer_port(from, peer).await?;
        Ok(PeerAddress {
            host: host.to_string(),
            port,
            listen: Some((host, port).into()),
        })
    }

    /// Lets an application's instances reach the peers that their templates name, and no others.
    pub(super) async fn open_doors(&self, application: &ApplicationKey) -> Result<()> {
        let Some(networks) = &self.ground.networks else {
            return Ok(());
        };
        let peers = self.peers_of(application);
        let mut ports = Vec::with_capacity(peers.len());
        for peer in peers {
            ports.push(self.peer_port(application, &peer).await?);
        }
        if !ports.is_empty() {
            networks
                .attach(&application.label(), &anchor(application))
                .await?;
        }
        networks
            .open_doors(&application.label(), &ports)
            .await
            .map(drop)
    }

    /// Gives back what an application without workloads held of the network.
    pub(super) async fn close_doors(&self, application: &ApplicationKey) -> Result<()> {
        let Some(networks) = &self.ground.networks else {
            return Ok(());
        };
        networks.open_doors(&application.label(), &[]).await?;
        networks
            .detach(&application.label(), &anchor(application))
            .await
    }

    async fn peer_port(&self, from: &ApplicationKey, peer: &Peer) -> Result<u16> {
        let name = format!("{from} {}/{}:{}", peer.application, peer.process, peer.port);
        let scope = if self.ground.host_network() {
            String::new()
        } else {
            from.to_string()
        };
        let row = format!("peer {name}").into_bytes();
        let digest = Digest::of(&name);
        let hash = u32::from_str_radix(&digest.hex()[..8], 16).expect("a digest is hexadecimal");
        for step in 0..u32::from(COUNT) {
            if let Some(value) = self.ground.durable.get(TABLE, &row).await? {
                let port = std::str::from_utf8(&value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                return port.ok_or_else(|| {
                    Error::internal(format!(
                        "the port of {name} cannot be read in table `{TABLE}`"
                    ))
                });
            }
            let port = FIRST
                + u16::try_from((hash.wrapping_add(step)) % u32::from(COUNT))
                    .expect("less than 10,000 fits");
            let taken = format!("port {scope} {port}").into_bytes();
            let batch = Batch::new()
                .check(TABLE, &row, None)
                .check(TABLE, &taken, None)
                .put(TABLE, &row, port.to_string().as_bytes())
                .put(TABLE, &taken, name.as_bytes());
            match self.ground.durable.commit(batch).await {
                Ok(()) => return Ok(port),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::exhausted(format!(
            "{from} is bound to {COUNT} others; there are no ports for more"
        )))
    }
}

/// The name under which a network's gateway is held.
pub(super) fn anchor(application: &ApplicationKey) -> String {
    format!("{ANCHOR}{}", application.label())
}
