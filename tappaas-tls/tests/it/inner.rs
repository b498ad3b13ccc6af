use std::{net::SocketAddr, time::Duration};

use tappaas_core::{
    ErrorKind,
    backend::{Action, Endpoint, Frontend, IngressProvider, Route},
};
use tokio::{
    io::{AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

use crate::{
    client::Raw,
    origin::{Origin, refusing},
    rig::{Rig, eventually, id, target},
};

async fn echo() -> Origin {
    Origin::tcp(|mut stream| async move {
        let (mut from, mut to) = stream.split();
        let _ = copy(&mut from, &mut to).await;
    })
    .await
}

pub(crate) async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

fn binding(generation: u64, listen: SocketAddr, endpoints: &[Endpoint], hold: Duration) -> Route {
    let action = Action::Forward {
        targets: vec![target(1, endpoints)],
        strip_prefix: false,
        hold,
    };
    Route {
        id: id("db"),
        generation,
        frontend: Frontend::Inner { listen },
        action,
    }
}

#[tokio::test]
async fn bytes_reach_another_application_through_an_inner_address_alone() {
    let (rig, origin, listen) = (Rig::start().await, echo().await, free_port().await);
    let endpoints = [refusing().await, origin.endpoint()];
    rig.ingress
        .apply(&binding(1, listen, &endpoints, Duration::ZERO))
        .await
        .unwrap();
    let mut clients = Vec::new();
    for word in ["one", "two", "three"] {
        let mut client = Raw::open(listen).await;
        client.send(word).await;
        assert_eq!(client.until(word).await, word);
        clients.push(client);
    }
    rig.ingress
        .apply(&binding(2, listen, &[], Duration::ZERO))
        .await
        .unwrap();
    let draining = || async {
        rig.ingress
            .observe(&id("db"))
            .await
            .unwrap()
            .unwrap()
            .draining
    };
    assert_eq!(draining().await[0].in_flight, 3);
    assert_eq!(Raw::open(listen).await.rest().await, "", "nobody is there");
    clients.pop();
    eventually("one less is in flight", || async {
        draining().await[0].in_flight == 2
    })
    .await;
    let client = clients.last_mut().unwrap();
    client.send("half").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(
        client.rest().await,
        "half",
        "a half-closed connection still brings what is under way"
    );
    clients.clear();
    eventually("it is drained", || async { draining().await.is_empty() }).await;
    rig.ingress.remove(&id("db")).await.unwrap();
    assert!(
        TcpStream::connect(listen).await.is_err(),
        "the address is closed"
    );
}

#[tokio::test]
async fn an_inner_connection_waits_for_the_first_endpoint() {
    let (rig, origin, listen) = (Rig::start().await, echo().await, free_port().await);
    let hold = Duration::from_secs(20);
    rig.ingress
        .apply(&binding(1, listen, &[], hold))
        .await
        .unwrap();
    let mut client = Raw::open(listen).await;
    client.send("early").await;
    rig.ingress
        .apply(&binding(2, listen, &[origin.endpoint()], hold))
        .await
        .unwrap();
    assert_eq!(client.until("early").await, "early");
}

#[tokio::test]
async fn a_taken_address_is_told_and_opened_once_it_is_free() {
    let (rig, origin) = (Rig::start().await, echo().await);
    let squatter = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = squatter.local_addr().unwrap();
    let route = binding(1, listen, &[origin.endpoint()], Duration::ZERO);
    let taken = rig.ingress.apply(&route).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Unavailable);
    assert!(taken.to_string().contains(&listen.to_string()), "{taken}");
    drop(squatter);
    rig.ingress.apply(&route).await.unwrap();
    let mut client = Raw::open(listen).await;
    client.send("now").await;
    assert_eq!(client.until("now").await, "now");
}
