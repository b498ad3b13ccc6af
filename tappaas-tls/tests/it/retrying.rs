use crate::{
    client::{ask, get},
    origin::{Origin, refusing},
    rig::{HOST, Rig},
};

#[tokio::test]
async fn a_kept_connection_that_died_costs_no_request() {
    // Each connection answers once, promises to stay, and goes.
    let (rig, origin) = (Rig::start().await, short_lived().await);
    rig.serve(1, &[origin.endpoint()]).await;
    for _ in 0..50 {
        let answer = get(rig.address, HOST, "/").await;
        assert_eq!((answer.status(), &*answer.body), (200, "once"));
    }
    assert_eq!(origin.connections(), 50);
}

async fn short_lived() -> Origin {
    Origin::tcp(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let _ = stream.read(&mut [0; 4096]).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nonce")
            .await
            .unwrap();
    })
    .await
}

#[tokio::test]
async fn a_request_on_a_connection_that_closes_under_it_is_sent_once_more_if_that_is_safe() {
    // The second request of each connection is read and not answered: what a server does whose keep-alive time is over.
    let rig = Rig::start().await;
    let seen = crate::origin::Seen::default();
    let log = seen.clone();
    let origin = Origin::tcp(move |mut stream| {
        let log = log.clone();
        async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            log.add(&buffer[..4.min(read)]);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
            let read = stream.read(&mut buffer).await.unwrap();
            log.add(&buffer[..4.min(read)]);
        }
    })
    .await;
    rig.serve(1, &[origin.endpoint()]).await;
    assert_eq!(get(rig.address, HOST, "/").await.status(), 200);
    assert_eq!(get(rig.address, HOST, "/").await.status(), 200);
    assert_eq!(
        seen.text(),
        "GET GET GET ",
        "the second was read on the old connection, and sent again on a new one"
    );
    let post = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(
        ask(rig.address, post).await.status(),
        502,
        "a POST may have been carried out"
    );
    assert_eq!(seen.text(), "GET GET GET POST");
    assert!(
        rig.ingress
            .metrics()
            .await
            .unwrap()
            .contains("route_retries_total{route=\"default/default/production/app/web\"} 1")
    );
}

#[tokio::test]
async fn a_request_that_dies_with_its_endpoint_is_answered_by_another_if_that_is_safe() {
    let (rig, good) = (Rig::start().await, Origin::text("good").await);
    let seen = crate::origin::Seen::default();
    let log = seen.clone();
    let dying = Origin::tcp(move |mut stream| {
        let log = log.clone();
        async move {
            use tokio::io::AsyncReadExt;
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            log.add(&buffer[..4.min(read)]);
        }
    })
    .await;
    rig.serve(1, &[dying.endpoint(), good.endpoint()]).await;
    for _ in 0..20 {
        assert_eq!(get(rig.address, HOST, "/").await.body, "good");
    }
    assert!(seen.text().contains("GET "), "it was never asked");
    rig.serve(2, &[dying.endpoint()]).await;
    let before = seen.text().len();
    let answer = get(rig.address, HOST, "/").await;
    assert_eq!(answer.status(), 502);
    assert_eq!(
        seen.text().len() - before,
        4,
        "where there is no other, it is not asked twice"
    );
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over() {
    let (rig, good) = (Rig::start().await, Origin::text("good").await);
    let bad = refusing().await;
    rig.serve(1, &[bad.clone(), good.endpoint(), refusing().await])
        .await;
    for _ in 0..30 {
        assert_eq!(get(rig.address, HOST, "/").await.body, "good");
    }
    let post = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 3\r\n\r\nabc");
    assert_eq!(
        ask(rig.address, post).await.body,
        "good",
        "nothing was sent yet, so that every request may go on"
    );
    rig.serve(2, &[bad]).await;
    assert_eq!(get(rig.address, HOST, "/").await.status(), 502);
    let metrics = rig.ingress.metrics().await.unwrap();
    assert!(
        metrics.contains(
            "tappaas_edge_route_ejected_endpoints{route=\"default/default/production/app/web\"} 1"
        ),
        "{metrics}"
    );
}
