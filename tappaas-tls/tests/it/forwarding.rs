use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tappaas_core::backend::{Action, Frontend, IngressProvider};
use tokio::{net::TcpStream, sync::mpsc};

use crate::{
    client::{Answer, Raw, ask, get, header},
    origin::{Origin, full, mirror},
    rig::{HOST, Rig, eventually, forward, id, route, target, web},
};

#[tokio::test]
async fn a_request_arrives_with_what_the_edge_says_about_the_client() {
    let (rig, origin) = (Rig::start().await, mirror().await);
    rig.serve(1, &[origin.endpoint()]).await;
    let port = rig.address.port();
    let request = format!(
        "GET /a?b=c HTTP/1.1\r\nHost: {HOST}:{port}\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_Host: evil\r\n\
         Forwarded: for=6.6.6.6\r\nX-Request-Id: mine\r\nConnection: x-secret\r\nX-Secret: 1\r\nProxy: evil\r\nAccept: a\r\n\r\n"
    );
    let answer = ask(rig.address, request).await;
    assert_eq!(answer.status(), 200);
    let said = |name| header(&answer.body, name);
    assert_eq!(answer.body.lines().next(), Some("GET /a?b=c HTTP/1.1"));
    assert_eq!(said("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(said("x-forwarded-proto"), Some("http"));
    assert_eq!(said("x-forwarded-host"), Some(&*format!("{HOST}:{port}")));
    assert_eq!(said("x-forwarded-port"), Some(&*port.to_string()));
    assert_eq!(
        said("forwarded"),
        Some(&*format!("for=127.0.0.1;host=\"{HOST}:{port}\";proto=http"))
    );
    assert_eq!(said("host"), Some(&*format!("{HOST}:{port}")));
    for gone in ["x-secret", "proxy", "connection", "x_forwarded_host"] {
        assert_eq!(said(gone), None, "{gone}");
    }
    assert!(
        !answer.body.contains("6.6.6.6")
            && !answer.body.contains("evil")
            && !answer.body.contains("mine")
    );
    assert_eq!(said("x-request-id"), answer.header("x-request-id"));
    assert_eq!(said("x-request-id").unwrap().len(), 32);
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let rig = Rig::with(|edge| edge.trusted_proxies = vec!["127.0.0.1".parse().unwrap()]).await;
    let origin = mirror().await;
    rig.serve(1, &[origin.endpoint()]).await;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Request-Id: theirs\r\n\r\n"
    );
    let answer = ask(rig.address, request).await;
    assert_eq!(
        header(&answer.body, "x-forwarded-for"),
        Some("9.9.9.9, 127.0.0.1")
    );
    assert_eq!(header(&answer.body, "x-forwarded-proto"), Some("https"));
    assert_eq!(answer.header("x-request-id"), Some("theirs"));
}

#[tokio::test]
async fn paths_are_routed_stripped_and_redirected() {
    let rig = Rig::start().await;
    let (web, api) = (Origin::text("web").await, mirror().await);
    rig.serve(1, &[web.endpoint()]).await;
    let stripped = Action::Forward {
        targets: vec![target(1, &[api.endpoint()])],
        strip_prefix: true,
        hold: Duration::ZERO,
    };
    rig.ingress
        .apply(&route("api", 1, HOST, "/api", stripped))
        .await
        .unwrap();
    let old = Action::Redirect {
        to: "https://new.example/base".to_owned(),
        status: 308,
    };
    rig.ingress
        .apply(&route("old", 1, HOST, "/old", old))
        .await
        .unwrap();
    let line = |answer: &Answer| answer.body.lines().next().unwrap().to_owned();

    assert_eq!(get(rig.address, HOST, "/").await.body, "web");
    assert_eq!(get(rig.address, HOST, "/apis").await.body, "web");
    assert_eq!(get(rig.address, HOST, "/api../x").await.body, "web");
    assert_eq!(
        line(&get(rig.address, HOST, "/api").await),
        "GET / HTTP/1.1"
    );
    assert_eq!(
        line(&get(rig.address, HOST, "/api/x?q=/api").await),
        "GET /x?q=/api HTTP/1.1"
    );
    assert_eq!(
        line(&get(rig.address, HOST, "/api//evil.example").await),
        "GET /evil.example HTTP/1.1"
    );
    assert_eq!(
        line(&get(rig.address, HOST, "/x/../api/%61").await),
        "GET /a HTTP/1.1"
    );
    let moved = get(rig.address, HOST, "/old/page?q=1").await;
    assert_eq!(
        (moved.status(), moved.header("location")),
        (308, Some("https://new.example/base/page?q=1"))
    );
}

#[tokio::test]
async fn a_download_flows_while_it_is_made() {
    let (rig, (pieces, source)) = (Rig::start().await, mpsc::channel::<&'static str>(1));
    let source = std::sync::Arc::new(tokio::sync::Mutex::new(source));
    let origin = Origin::http(move |_| {
        let source = std::sync::Arc::clone(&source);
        async move {
            let source = source.lock_owned().await;
            let pieces = futures::stream::unfold(source, |mut source| async {
                let piece = source.recv().await?;
                Some((Ok(Frame::data(Bytes::from(piece))), source))
            });
            Response::new(BodyExt::boxed(StreamBody::new(pieces)))
        }
    })
    .await;
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    client
        .send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .await;
    for piece in ["first", "second", "third"] {
        pieces.send(piece).await.unwrap();
        client.until(piece).await;
    }
    drop(pieces);
    client.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn an_upload_flows_while_it_is_sent() {
    let (rig, (seen, mut arrived)) = (Rig::start().await, mpsc::channel(16));
    let origin = Origin::http(move |request| {
        let seen = seen.clone();
        async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                seen.send(frame.into_data().unwrap()).await.unwrap();
            }
            Response::new(full("done"))
        }
    })
    .await;
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n"
        ))
        .await;
    for piece in ["5\r\nfirst\r\n", "6\r\nsecond\r\n"] {
        client.send(piece).await;
        let arrived = arrived.recv().await.unwrap();
        assert!(piece.contains(std::str::from_utf8(&arrived).unwrap()));
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "done");
}

#[tokio::test]
async fn a_long_body_arrives_whole_in_both_directions() {
    let rig = Rig::start().await;
    let origin =
        Origin::http(|request| async move { Response::new(BodyExt::boxed(request.into_body())) })
            .await;
    rig.serve(1, &[origin.endpoint()]).await;
    let body: Vec<u8> = (0..8_u32 << 20)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::post("/")
        .header("host", HOST)
        .body(Full::new(Bytes::from(body.clone())))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), body);
}

#[tokio::test]
async fn many_streams_share_an_http2_connection() {
    let (rig, origin) = (Rig::start().await, mirror().await);
    rig.serve(1, &[origin.endpoint()]).await;
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let asks = (0..50).map(|i| {
        let mut sender = sender.clone();
        async move {
            let uri = format!("http://{HOST}/{i}");
            let request = Request::post(uri)
                .header("cookie", "a=1")
                .header("cookie", "b=2");
            let request = request
                .body(Full::new(Bytes::from(format!("body {i}"))))
                .unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            let text = answer.into_body().collect().await.unwrap().to_bytes();
            let text = std::str::from_utf8(&text).unwrap();
            assert_eq!(text.lines().next(), Some(&*format!("POST /{i} HTTP/1.1")));
            assert_eq!(
                (header(text, "host"), header(text, "cookie")),
                (Some(HOST), Some("a=1; b=2"))
            );
            assert!(text.ends_with(&format!("\nbody {i}")));
        }
    });
    futures::stream::iter(asks)
        .buffer_unordered(20)
        .collect::<Vec<()>>()
        .await;
    let mut sender = sender;
    let odd = Request::get(format!("http://{HOST}/"))
        .header("host", "other.localhost")
        .body(Full::default())
        .unwrap();
    assert_eq!(
        sender.send_request(odd).await.unwrap().status(),
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn trailers_reach_a_client_that_asked_for_them() {
    let rig = Rig::start().await;
    let origin = Origin::http(|_| async move {
        let trailers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("x-sum"),
            "7".parse().unwrap(),
        )]);
        let frames = [
            Ok(Frame::data(Bytes::from("text"))),
            Ok(Frame::trailers(trailers)),
        ];
        let body = BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)));
        Response::builder()
            .header("trailer", "x-sum")
            .body(body)
            .unwrap()
    })
    .await;
    rig.serve(1, &[origin.endpoint()]).await;
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("http://{HOST}/"))
        .header("te", "trailers")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let answer = sender
        .send_request(request)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap();
    assert_eq!(answer.trailers().unwrap()["x-sum"], "7");
}

#[tokio::test]
async fn answers_without_a_body_keep_their_head() {
    let rig = Rig::start().await;
    let origin = Origin::http(|request| async move {
        match request.uri().path() {
            "/none" => Response::builder().status(204).body(full("")).unwrap(),
            "/same" => Response::builder()
                .status(304)
                .header("etag", "x")
                .body(full(""))
                .unwrap(),
            _ => Response::new(full("12345")),
        }
    })
    .await;
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    let head = format!("HEAD / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    client.send(&head).await;
    assert_eq!(
        header(&client.until("\r\n\r\n").await, "content-length"),
        Some("5")
    );
    let none = client
        .ask(format!("GET /none HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .await;
    assert_eq!((none.status(), none.header("content-length")), (204, None));
    let same = client
        .ask(format!("GET /same HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .await;
    assert_eq!((same.status(), same.header("etag")), (304, Some("x")));
    assert_eq!(
        client
            .ask(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
            .await
            .body,
        "12345"
    );
    assert_eq!(
        origin.connections(),
        1,
        "each answer gave its connection back"
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_made_to_look_whole() {
    let rig = Rig::start().await;
    let origin = Origin::tcp(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let _ = stream.read(&mut [0; 1024]).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n")
            .await
            .unwrap();
    })
    .await;
    rig.serve(1, &[origin.endpoint()]).await;
    let mut client = Raw::open(rig.address).await;
    client
        .send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .await;
    let text = client.rest().await;
    assert!(
        text.contains("part") && !text.ends_with("0\r\n\r\n"),
        "{text}"
    );
    eventually("the log says that it was cut", || async {
        rig.log().await.contains("\"complete\":false")
    })
    .await;
}

#[tokio::test]
async fn weights_share_the_requests() {
    let (rig, stable, candidate) = (
        Rig::start().await,
        Origin::text("stable").await,
        Origin::text("candidate").await,
    );
    let action = |weights: [u32; 2]| Action::Forward {
        targets: vec![
            target(weights[0], &[stable.endpoint()]),
            target(weights[1], &[candidate.endpoint()]),
        ],
        strip_prefix: false,
        hold: Duration::ZERO,
    };
    let mut client = Raw::open(rig.address).await;
    for (generation, weights, expected) in [
        (1, [9, 1], 9..=11),
        (2, [1, 0], 0..=0),
        (3, [0, 5], 100..=100),
    ] {
        rig.ingress
            .apply(&route("web", generation, HOST, "/", action(weights)))
            .await
            .unwrap();
        let mut hits = 0;
        for _ in 0..100 {
            let answer = client
                .ask(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
                .await;
            hits += usize::from(answer.body == "candidate");
        }
        assert!(expected.contains(&hits), "{weights:?}: {hits}");
    }
}

#[tokio::test]
async fn every_request_is_logged_and_counted() {
    let (rig, origin) = (Rig::start().await, Origin::text("hello").await);
    rig.serve(1, &[origin.endpoint()]).await;
    let mut signals = rig.ingress.watch().await.unwrap();
    let answer = get(rig.address, HOST, "/page?token=secret").await;
    get(rig.address, "nobody.localhost", "/").await;
    eventually("two lines in the log", || async {
        rig.log().await.lines().count() == 2
    })
    .await;
    let log = rig.log().await;
    let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(line["id"], answer.header("x-request-id").unwrap());
    assert_eq!(
        (&line["method"], &line["host"], &line["path"]),
        (&"GET".into(), &HOST.into(), &"/page".into())
    );
    assert_eq!(
        (&line["status"], &line["bytes"], &line["complete"]),
        (&200.into(), &5.into(), &true.into())
    );
    assert_eq!(line["endpoint"], origin.address.to_string());
    assert!(
        line["time"]
            .as_str()
            .unwrap()
            .parse::<tappaas_core::Timestamp>()
            .is_ok()
    );
    assert!(!log.contains("secret"));
    let signal = signals.next().await.unwrap();
    assert_eq!(
        (signal.id, signal.requests, signal.errors, signal.in_flight),
        (id("web"), 1, 0, 0)
    );
    let metrics = rig.ingress.metrics().await.unwrap();
    for figure in [
        "tappaas_edge_requests_total{route=\"default/default/production/app/web\",status=\"2xx\"} 1",
        "tappaas_edge_request_duration_seconds_count{route=\"default/default/production/app/web\"} 1",
        "tappaas_edge_route_sent_bytes_total{route=\"default/default/production/app/web\"} 5",
        "tappaas_edge_unrouted_requests_total 1",
        "tappaas_edge_table_generation 1",
        "tappaas_edge_access_log_dropped_lines_total 0",
    ] {
        assert!(metrics.contains(figure), "{figure} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_host_and_path_belong_to_one_route() {
    let rig = Rig::start().await;
    rig.serve(1, &[]).await;
    let taken = rig
        .ingress
        .apply(&route("other", 1, HOST, "/", forward(&[])))
        .await
        .unwrap_err();
    assert_eq!(taken.kind(), tappaas_core::ErrorKind::AlreadyExists);
    assert!(
        !taken.to_string().contains("web"),
        "whose it is, is not said"
    );
    rig.ingress
        .apply(&route("other", 1, HOST, "/other", forward(&[])))
        .await
        .unwrap();
    assert_eq!(rig.ingress.list().await.unwrap(), [id("other"), id("web")]);
    rig.ingress.remove(&id("web")).await.unwrap();
    rig.ingress.remove(&id("web")).await.unwrap();
    assert_eq!(rig.ingress.observe(&id("web")).await.unwrap(), None);
    let mut moved = web(1, &[]);
    moved.id = id("third");
    rig.ingress.apply(&moved).await.unwrap();
    let Frontend::Http { .. } = rig
        .ingress
        .observe(&id("third"))
        .await
        .unwrap()
        .unwrap()
        .route
        .frontend
    else {
        panic!()
    };
}
