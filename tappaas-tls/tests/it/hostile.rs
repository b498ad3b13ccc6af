//! Requests that two readers could read differently: each is refused, or forwarded as exactly one request that reads one way.

use tappaas_core::backend::IngressProvider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    client::{PATIENCE, Raw, get, header},
    origin::{Origin, Seen, mirror},
    rig::{HOST, Rig, forward, route},
};

/// Keeps every byte that reaches it, and answers each head with an empty 200.
async fn recorder(seen: Seen) -> Origin {
    Origin::tcp(move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                seen.add(&buffer[..read]);
                if stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    })
    .await
}

/// What came of a payload: the statuses that the client got, and the bytes that reached the endpoint.
async fn outcome(payload: &[u8]) -> (Vec<u16>, String) {
    let (rig, seen) = (
        Rig::with(|edge| edge.timeouts.stall_ms = 300).await,
        Seen::default(),
    );
    let origin = recorder(seen.clone()).await;
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    client.send(payload).await;
    // Half-closing would tell the edge that the client is gone, so its own time-outs end what does not end by itself.
    let text =
        match tokio::time::timeout(std::time::Duration::from_millis(600), client.rest()).await {
            Ok(text) => text,
            Err(_) => client.until("\r\n\r\n").await,
        };
    let statuses = text
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| answer[..3].parse().unwrap())
        .collect();
    (statuses, seen.text())
}

/// How many requests a reader finds that trusts every `GET` or `POST` at the start of a line.
fn requests(bytes: &str) -> usize {
    bytes
        .lines()
        .filter(|line| {
            ["GET /", "POST /"]
                .iter()
                .any(|start| line.starts_with(start))
        })
        .count()
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: app.localhost\r\n\r\n";

#[tokio::test]
async fn framing_that_is_not_clear_is_refused() {
    let chunked = "transfer-encoding: chunked";
    let refused = [
        format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello{SMUGGLED}"
        ),
        format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 5, 6\r\n\r\nhello{SMUGGLED}"),
        format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: +5\r\n\r\nhello{SMUGGLED}"),
        format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: -5\r\n\r\nhello{SMUGGLED}"),
        format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 0x5\r\n\r\nhello{SMUGGLED}"),
        format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 99999999999999999999\r\n\r\nhello{SMUGGLED}"
        ),
        format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: \r\n\r\nhello{SMUGGLED}"),
        format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: identity\r\n\r\n{SMUGGLED}"),
        format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
        ),
        format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n{SMUGGLED}"
        ),
        format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\n{chunked}\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{SMUGGLED}"
        ),
        format!("POST / HTTP/1.0\r\nhost: {HOST}\r\n{chunked}\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
        ),
        format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding\x0b: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
        ),
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: a\r\n folded: b\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n host: {HOST}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: a\0b\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: a\rb\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nno colon\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n: no name\r\n\r\n"),
        format!("GET / x HTTP/1.1\r\nhost: {HOST}\r\n\r\n"),
        format!("GET / HTTP/3.0\r\nhost: {HOST}\r\n\r\n"),
        format!("GET /\r\nhost: {HOST}\r\n\r\n"),
        format!("GE T / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"),
    ];
    for payload in refused {
        let (statuses, arrived) = outcome(payload.as_bytes()).await;
        assert_eq!(statuses, [400], "{payload:?}");
        assert_eq!(arrived, "", "{payload:?}");
    }
}

#[tokio::test]
async fn what_is_forwarded_reads_one_way() {
    let both = |first: &str, second: &str| {
        format!(
            "POST /first HTTP/1.1\r\nhost: {HOST}\r\n{first}\r\n{second}\r\n\r\n0\r\n\r\n{SMUGGLED}"
        )
    };
    let (length, chunked) = ("content-length: 4", "transfer-encoding: chunked");
    for payload in [
        both(length, chunked),
        both(chunked, length),
        both("Content-Length: 4", "Transfer-Encoding: CHUNKED"),
    ] {
        let (statuses, arrived) = outcome(payload.as_bytes()).await;
        assert_eq!(
            statuses,
            [200],
            "the connection ends after a request with both: {payload:?}"
        );
        assert_eq!(requests(&arrived), 1, "{arrived}");
        assert!(
            arrived.contains("transfer-encoding: chunked") && !arrived.contains("content-length"),
            "{arrived}"
        );
    }
    for (payload, length) in [
        (
            format!(
                "POST /first HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello"
            ),
            "content-length: 5",
        ),
        (
            format!("POST /first HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 005\r\n\r\nhello"),
            "content-length: 5",
        ),
        (
            format!("GET /first HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 5\r\n\r\nhello"),
            "content-length: 5",
        ),
        (
            format!(
                "POST /first HTTP/1.1\r\nhost: {HOST}\r\ncontent_length: 9\r\ncontent-length: 5\r\n\r\nhello"
            ),
            "content-length: 5",
        ),
    ] {
        let (_, arrived) = outcome(payload.as_bytes()).await;
        assert_eq!(
            arrived.matches("content").count(),
            1,
            "{payload:?}: {arrived}"
        );
        assert!(
            arrived.contains(length) && arrived.ends_with("\r\n\r\nhello"),
            "{payload:?}: {arrived}"
        );
    }
}

#[tokio::test]
async fn chunks_are_read_and_written_anew() {
    let chunked =
        format!("POST /first HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n");
    let (statuses, arrived) =
        outcome(format!("{chunked}5;ext=1\r\nhello\r\n0\r\n\r\n").as_bytes()).await;
    assert_eq!(statuses, [200]);
    assert!(!arrived.contains("ext=1"), "{arrived}");
    for broken in [
        "5\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n",
        "fffffffffffffffff\r\nhello",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "g\r\n",
        "\r\n",
    ] {
        let (_, arrived) = outcome(format!("{chunked}{broken}{SMUGGLED}").as_bytes()).await;
        assert!(requests(&arrived) <= 1, "{broken:?}: {arrived}");
        assert!(
            !arrived.ends_with("0\r\n\r\n"),
            "a broken body is not made whole: {broken:?}: {arrived}"
        );
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_one_at_a_time() {
    let (rig, origin) = (Rig::start().await, mirror().await);
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    let pipeline: String = (0..10)
        .map(|i| format!("GET /{i} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .collect();
    client.send(pipeline).await;
    for i in 0..10 {
        let answer = client.answer().await;
        assert_eq!(
            answer.body.lines().next(),
            Some(&*format!("GET /{i} HTTP/1.1"))
        );
    }
}

#[tokio::test]
async fn a_host_that_is_not_clear_is_refused() {
    let (rig, origin) = (Rig::start().await, mirror().await);
    rig.serve(1, &[origin.endpoint()]).await;
    for head in [
        "GET / HTTP/1.1\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nhost: {HOST}\r\n"),
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nHost: other.localhost\r\n"),
        format!("GET http://other.localhost/ HTTP/1.1\r\nhost: {HOST}\r\n"),
        format!("GET http://user@{HOST}/ HTTP/1.1\r\nhost: {HOST}\r\n"),
        format!("GET http://{HOST}/ HTTP/1.1\r\n"),
        format!("GET / HTTP/1.1\r\nhost: {HOST}, other.localhost\r\n"),
        format!("GET / HTTP/1.1\r\nhost: {HOST}/path\r\n"),
        format!("GET / HTTP/1.1\r\nhost: user@{HOST}\r\n"),
        format!("GET / HTTP/1.1\r\nhost: {HOST}:80:80\r\n"),
        "GET / HTTP/1.1\r\nhost: \r\n".to_owned(),
    ] {
        let mut client = Raw::open(rig.address).await;
        let answer = client.ask(format!("{head}\r\n")).await;
        assert_eq!(answer.status(), 400, "{head:?}");
        assert_eq!(
            client.rest().await,
            "",
            "nothing after it is read: {head:?}"
        );
    }
    for clear in [
        format!("GET http://{HOST}/ HTTP/1.1\r\nhost: {HOST}\r\n"),
        "GET / HTTP/1.1\r\nhost: APP.LOCALHOST.:99\r\n".to_owned(),
    ] {
        assert_eq!(
            crate::client::ask(rig.address, format!("{clear}\r\n"))
                .await
                .status(),
            200,
            "{clear:?}"
        );
    }
}

#[tokio::test]
async fn a_path_reaches_the_route_it_names_and_no_other() {
    let rig = Rig::start().await;
    let (public, admin) = (mirror().await, Origin::text("admin").await);
    rig.serve(1, &[public.endpoint()]).await;
    rig.ingress
        .apply(&route(
            "admin",
            1,
            HOST,
            "/admin",
            forward(&[admin.endpoint()]),
        ))
        .await
        .unwrap();
    for path in [
        "/admin",
        "/admin/",
        "/x/../admin",
        "/%61dmin",
        "/./admin",
        "/admin/x/..",
    ] {
        assert_eq!(get(rig.address, HOST, path).await.body, "admin", "{path}");
    }
    for path in [
        "/..",
        "/../admin",
        "/x/../../admin",
        "/%2e%2e/admin",
        "/x/..%2fadmin",
        "/x/%2e%2e%2fadmin",
        "/x/..%5cadmin",
        "/x\\..\\admin",
        "/x/..;/admin",
        "/x/..;a=b/admin",
        "/x/.%2e/admin",
        "/x%00",
        "/x%0d%0ahost:%20evil",
        "/%",
        "/%g0",
    ] {
        let answer = get(rig.address, HOST, path).await;
        assert_eq!(answer.status(), 400, "{path}: {}", answer.body);
    }
    for (path, line) in [
        ("/adminx", "GET /adminx HTTP/1.1"),
        ("/x%2Fadmin", "GET /x%2Fadmin HTTP/1.1"),
        ("/x%2fadmin?..%2f", "GET /x%2Fadmin?..%2f HTTP/1.1"),
        ("//admin", "GET //admin HTTP/1.1"),
        ("/x;/admin", "GET /x;/admin HTTP/1.1"),
    ] {
        let answer = get(rig.address, HOST, path).await;
        assert_eq!(answer.body.lines().next(), Some(line), "{path}");
    }
}

#[tokio::test]
async fn an_endpoints_answer_cannot_split_in_two() {
    for (answer, status) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
            Some(502),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
            Some(200),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Some(200),
        ),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", Some(200)),
    ] {
        let rig = Rig::start().await;
        let origin = Origin::tcp(move |mut stream| async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        })
        .await;
        rig.serve(1, &[origin.endpoint()]).await;
        let mut client = Raw::open(rig.address).await;
        client
            .send(format!(
                "GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"
            ))
            .await;
        let text = tokio::time::timeout(PATIENCE, client.rest()).await.unwrap();
        assert_eq!(
            text.get(9..12).and_then(|status| status.parse().ok()),
            status,
            "{answer:?}: {text:?}"
        );
        assert!(!text.contains("evil"), "{text}");
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            header(head, "content-length").is_none() || header(head, "transfer-encoding").is_none(),
            "{text}"
        );
    }
}
