//! The contract of an ingress provider, over an edge in this process and over one in a process of its own.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    Request, Response,
    header::{HOST, LOCATION},
};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tappaas_core::backend::IngressProvider;
use tappaas_testkit::conformance::{
    Failure,
    ingress::{Gate, IngressFixture, Reply, Server},
};
use tappaas_tls::{Ingress, Place};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    inner::free_port,
    origin::{Origin, full},
    process::{HELPER, Home},
    rig::start,
};

mod in_process {
    use super::Edge;

    tappaas_testkit::ingress_conformance!(Edge::in_process().await);
}

mod in_a_process_of_its_own {
    use super::Edge;

    tappaas_testkit::ingress_conformance!(Edge::in_a_process_of_its_own().await);
}

#[derive(Debug)]
struct Edge {
    ingress: Arc<Ingress>,
    address: SocketAddr,
    _home: Home,
}

impl Edge {
    async fn in_process() -> Self {
        Self::start(Place::InProcess).await
    }

    async fn in_a_process_of_its_own() -> Self {
        Self::start(Place::Process {
            helper: HELPER.into(),
        })
        .await
    }

    async fn start(place: Place) -> Self {
        let home = Home::new();
        let ingress = start(home.path(), place, |_| {}).await;
        Self {
            address: ingress.listen().await.unwrap()[0],
            ingress: Arc::new(ingress),
            _home: home,
        }
    }
}

#[async_trait]
impl IngressFixture for Edge {
    fn ingress(&self) -> Arc<dyn IngressProvider> {
        Arc::clone(&self.ingress) as _
    }

    async fn serve(&self, name: &str, gate: &Gate) -> Result<Server, Failure> {
        let (name, gate) = (name.to_owned(), gate.clone());
        let origin = Origin::http(move |request| {
            let (name, gate) = (name.clone(), gate.clone());
            async move {
                let path = request.uri().to_string();
                if path.starts_with("/held") {
                    gate.pass().await;
                }
                Response::new(full(format!("{name} {path}")))
            }
        })
        .await;
        Ok(Server {
            endpoint: origin.endpoint(),
            running: Box::new(origin),
        })
    }

    async fn request(&self, host: &str, path: &str) -> Result<Reply, Failure> {
        ask(self.address, host, path).await
    }

    async fn request_inside(&self, address: SocketAddr, path: &str) -> Result<Reply, Failure> {
        ask(address, "inside", path).await
    }

    async fn inner_address(&self) -> Result<SocketAddr, Failure> {
        Ok(free_port().await)
    }
}

async fn ask(address: SocketAddr, host: &str, path: &str) -> Result<Reply, Failure> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::get(path)
        .header(HOST, host)
        .body(Empty::<Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let location = head
        .headers
        .get(LOCATION)
        .map(|location| location.to_str().map(str::to_owned));
    Ok(Reply {
        status: head.status.as_u16(),
        body: String::from_utf8(body.collect().await?.to_bytes().into())?,
        location: location.transpose()?,
    })
}
