use tappaas_core::backend::IngressProvider;

use crate::{
    client::{Raw, ask, get},
    origin::{Origin, refusing},
    rig::{HOST, Rig, forward, route},
};

#[tokio::test]
async fn an_unknown_host_is_told_with_a_way_on() {
    let rig = Rig::start().await;
    let answer = get(rig.address, "nobody.localhost:8080", "/").await;
    assert_eq!(answer.status(), 404);
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(
        answer.body.contains("nobody.localhost") && answer.body.contains("tappaas apps"),
        "{}",
        answer.body
    );
    assert!(answer.body.contains(answer.header("x-request-id").unwrap()));
    for probe in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(
            get(rig.address, "localhost", probe).await.status(),
            404,
            "{probe}"
        );
    }
}

#[tokio::test]
async fn a_browser_gets_a_page() {
    let rig = Rig::start().await;
    let answer = ask(
        rig.address,
        "GET / HTTP/1.1\r\nhost: nobody.localhost\r\naccept: text/html,*/*\r\n\r\n",
    )
    .await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(answer.body.starts_with("<!doctype html>") && answer.body.contains("nobody.localhost"));
}

#[tokio::test]
async fn each_fault_has_its_status() {
    let rig = Rig::with(|edge| {
        edge.timeouts.answer_ms = Some(50);
        edge.timeouts.connect_ms = 500;
    })
    .await;
    let silent = Origin::tcp(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let rude = Origin::tcp(|mut stream| async move {
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1024]).await;
    })
    .await;
    let garbled = Origin::tcp(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"\x00\x01not http\r\n\r\n").await;
    })
    .await;
    for (path, endpoints, status, word) in [
        ("/empty", vec![], 503, "no instance that is ready"),
        ("/refused", vec![refusing().await], 502, "takes connections"),
        ("/rude", vec![rude.endpoint()], 502, "without an answer"),
        (
            "/garbled",
            vec![garbled.endpoint()],
            502,
            "without an answer",
        ),
        (
            "/silent",
            vec![silent.endpoint()],
            504,
            "did not answer in time",
        ),
    ] {
        rig.ingress
            .apply(&route(&path[1..], 1, HOST, path, forward(&endpoints)))
            .await
            .unwrap();
        let answer = get(rig.address, HOST, path).await;
        assert_eq!(answer.status(), status, "{path}");
        assert!(answer.body.contains(word), "{path}: {}", answer.body);
        assert!(answer.body.contains("tappaas "), "{path} says what to do");
        assert!(answer.body.contains(answer.header("x-request-id").unwrap()));
    }
    assert_eq!(get(rig.address, HOST, "/nowhere").await.status(), 404);
    for method in ["CONNECT a.example:80", "TRACE /"] {
        assert_eq!(
            ask(
                rig.address,
                format!("{method} HTTP/1.1\r\nhost: {HOST}\r\n\r\n")
            )
            .await
            .status(),
            405,
            "{method}"
        );
    }
}

#[tokio::test]
async fn heads_have_bounds() {
    let rig = Rig::with(|edge| {
        edge.limits.head_bytes = 8_192;
        edge.limits.headers = 20;
    })
    .await;
    let long = format!(
        "GET / HTTP/1.1\r\nhost: {HOST}\r\nx: {}\r\n\r\n",
        "y".repeat(9_000)
    );
    let mut client = Raw::open(rig.address).await;
    client.send(long).await;
    assert!(client.until("\r\n").await.starts_with("HTTP/1.1 431"));
    let many: String = (0..30).map(|i| format!("x{i}: y\r\n")).collect();
    let mut client = Raw::open(rig.address).await;
    client
        .send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{many}\r\n"))
        .await;
    assert!(client.until("\r\n").await.starts_with("HTTP/1.1 431"));
}
