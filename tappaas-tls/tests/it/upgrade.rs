use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};

use crate::{
    client::{Raw, header},
    origin::{Origin, Seen},
    rig::{HOST, Rig, eventually},
};

/// Answers 101 and then repeats what it gets. Says hello together with its 101.
async fn echo(seen: Seen) -> Origin {
    Origin::tcp(move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                head.push(byte);
            }
            seen.add(&head);
            // What came before the 101 would be read here.
            let mut early = [0; 16];
            if let Ok(read) = stream.try_read(&mut early) {
                seen.add(&early[..read]);
            }
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\nhello";
            stream.write_all(answer).await.unwrap();
            let (mut from, mut to) = stream.split();
            let _ = copy(&mut from, &mut to).await;
        }
    })
    .await
}

fn upgrade(protocol: &str) -> String {
    format!(
        "GET /socket HTTP/1.1\r\nhost: {HOST}\r\nconnection: keep-alive, Upgrade\r\nupgrade: {protocol}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_connection_leaves_http_and_bytes_flow_both_ways() {
    let (rig, seen) = (Rig::start().await, Seen::default());
    let origin = echo(seen.clone()).await;
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    client.send(upgrade("echo")).await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(
        (header(&head, "upgrade"), header(&head, "connection")),
        (Some("echo"), Some("upgrade"))
    );
    assert_eq!(client.until("hello").await, "hello");
    for word in ["ping", "pong"] {
        client.send(word).await;
        assert_eq!(client.until(word).await, word);
    }
    assert_eq!(header(&seen.text(), "upgrade"), Some("echo"));

    rig.serve(2, &[]).await;
    let status = rig.status().await;
    assert_eq!(
        (status.draining.len(), status.draining[0].in_flight),
        (1, 1),
        "an upgraded connection is in flight"
    );
    client.send("still").await;
    assert_eq!(client.until("still").await, "still");
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "");
    eventually("the endpoint is drained", || async {
        rig.status().await.draining.is_empty()
    })
    .await;
    eventually("it is logged when it ends", || async {
        rig.log().await.contains("\"status\":101")
    })
    .await;
}

#[tokio::test]
async fn nothing_is_tunnelled_before_the_endpoint_agreed() {
    let (rig, seen) = (Rig::start().await, Seen::default());
    let origin = echo(seen.clone()).await;
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    client.send(format!("{}EARLY", upgrade("echo"))).await;
    client.until("hello").await;
    assert_eq!(
        client.until("EARLY").await,
        "EARLY",
        "it comes through once the tunnel is there"
    );
    assert!(!seen.text().contains("EARLY"), "and not before");
}

#[tokio::test]
async fn what_follows_a_refused_upgrade_is_a_request_like_any_other() {
    let (rig, origin) = (Rig::start().await, crate::origin::mirror().await);
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    let second =
        format!("GET /second HTTP/1.1\r\nhost: {HOST}\r\nx-forwarded-for: 6.6.6.6\r\n\r\n");
    let first = client.ask(format!("{}{second}", upgrade("echo"))).await;
    assert_eq!(first.status(), 200);
    let second = client.answer().await;
    assert_eq!(second.body.lines().next(), Some("GET /second HTTP/1.1"));
    assert_eq!(header(&second.body, "x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn no_tunnel_is_opened_into_another_version_of_http() {
    let (rig, origin) = (Rig::start().await, crate::origin::mirror().await);
    rig.serve(1, &[origin.endpoint()]).await;
    for protocol in ["h2c", "H2C", "echo, h2c", "HTTP/2.0"] {
        let answer = crate::client::ask(rig.address, upgrade(protocol)).await;
        assert_eq!(header(&answer.body, "upgrade"), None, "{protocol}");
    }
}

#[tokio::test]
async fn an_endpoint_that_switches_unasked_is_not_followed() {
    let rig = Rig::start().await;
    let origin = Origin::tcp(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            )
            .await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    rig.serve(1, &[origin.endpoint()]).await;
    assert_eq!(
        crate::client::get(rig.address, HOST, "/").await.status(),
        502
    );
}
