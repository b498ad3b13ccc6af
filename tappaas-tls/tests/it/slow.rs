use std::time::Duration;

use tappaas_tls::EdgeConfig;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep},
};

use crate::{
    client::{Raw, get},
    origin::{Origin, mirror},
    rig::{HOST, Rig, eventually},
};

/// Limits far below those of everything that a test must not run into.
fn impatient(edge: &mut EdgeConfig) {
    edge.timeouts.first_byte_ms = 150;
    edge.timeouts.head_ms = 300;
    edge.timeouts.idle_ms = 600;
    edge.timeouts.stall_ms = 400;
}

/// Says how long it took the edge to close.
async fn closed(client: &mut Raw) -> Duration {
    let since = Instant::now();
    client.rest().await;
    since.elapsed()
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed() {
    let rig = Rig::with(impatient).await;
    let mut silent = Raw::open(rig.address).await;
    assert!(closed(&mut silent).await >= Duration::from_millis(140));
}

#[tokio::test]
async fn a_client_that_dribbles_its_head_is_closed() {
    let rig = Rig::with(|edge| {
        impatient(edge);
        edge.timeouts.idle_ms = 600_000;
    })
    .await;
    for start in ["G", "P", "PRI", "GET / HTTP/1.1\r\n"] {
        let mut slow = Raw::open(rig.address).await;
        let begun = Instant::now();
        slow.send(start).await;
        while slow.stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(40)).await;
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{start:?} is still open"
            );
        }
    }
    let timed_out = "tappaas_edge_connections_timed_out_total 4";
    eventually("they were counted", || async {
        rig.ingress.metrics().await.unwrap().contains(timed_out)
    })
    .await;
}

#[tokio::test]
async fn a_connection_may_rest_between_requests_but_not_for_ever() {
    let (rig, origin) = (Rig::with(impatient).await, mirror().await);
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    for _ in 0..3 {
        client.ask(&request).await;
        sleep(Duration::from_millis(400)).await;
    }
    client.ask(&request).await;
    let rested = closed(&mut client).await;
    assert!(rested >= Duration::from_millis(580), "{rested:?}");
}

#[tokio::test]
async fn every_head_has_its_time() {
    let rig = Rig::with(|edge| {
        impatient(edge);
        edge.timeouts.idle_ms = 600_000;
    })
    .await;
    let origin = mirror().await;
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    client
        .ask(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .await;
    sleep(Duration::from_millis(500)).await;
    client.send("GET / HT").await;
    let took = closed(&mut client).await;
    assert!(took >= Duration::from_millis(280), "{took:?}");
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let (rig, origin) = (Rig::with(impatient).await, mirror().await);
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 100\r\n\r\npart"
        ))
        .await;
    let text = client.rest().await;
    assert!(
        text.starts_with("HTTP/1.1 400") && text.contains("not sent whole"),
        "{text}"
    );
    assert!(rig.status().await.draining.is_empty());
}

#[tokio::test]
async fn a_slow_answer_is_waited_for() {
    let rig = Rig::with(impatient).await;
    let origin = Origin::http(|_| async {
        sleep(Duration::from_millis(1_500)).await;
        http::Response::new(crate::origin::full("late"))
    })
    .await;
    rig.serve(1, &[origin.endpoint()]).await;
    assert_eq!(get(rig.address, HOST, "/").await.body, "late");
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_closed() {
    let rig = Rig::with(impatient).await;
    let origin =
        Origin::http(|_| async { http::Response::new(crate::origin::full(vec![b'x'; 64 << 20])) })
            .await;
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    client
        .send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .await;
    eventually("it is closed and its endpoint released", || async {
        let metrics = rig.ingress.metrics().await.unwrap();
        metrics.contains("tappaas_edge_connections_timed_out_total 1")
            && metrics.contains("route_in_flight{route=\"default/default/production/app/web\"} 0")
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_releases_its_endpoint() {
    let (rig, silent) = (
        Rig::start().await,
        Origin::tcp(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await,
    );
    rig.serve(1, &[silent.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    client
        .send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .await;
    eventually("the request is there", || async {
        silent.connections() == 1
    })
    .await;
    rig.serve(2, &[]).await;
    assert_eq!(rig.status().await.draining[0].in_flight, 1);
    drop(client);
    eventually("it is drained", || async {
        rig.status().await.draining.is_empty()
    })
    .await;
    eventually("it is logged", || async {
        rig.log().await.contains("\"status\":499")
    })
    .await;
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_their_turn() {
    let rig = Rig::with(|edge| edge.limits.connections = 2).await;
    let origin = mirror().await;
    rig.serve(1, &[origin.endpoint()]).await;
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let (mut one, mut two, mut three) = (
        Raw::open(rig.address).await,
        Raw::open(rig.address).await,
        Raw::open(rig.address).await,
    );
    one.ask(&request).await;
    two.ask(&request).await;
    three.send(&request).await;
    let waits = tokio::time::timeout(Duration::from_millis(300), three.until("\r\n")).await;
    assert!(waits.is_err(), "only two are served at a time");
    drop(one);
    assert_eq!(three.answer().await.status(), 200);
}
