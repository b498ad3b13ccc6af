use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::StreamExt;
use http::Response;
use tappaas_core::backend::{Action, IngressProvider, Route};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use crate::{
    client::{Raw, get},
    origin::{Origin, full},
    rig::{HOST, Rig, eventually, id, route, target},
};

/// An origin that holds each request until a permit comes, and knows whether it was told to be gone.
async fn gated(gate: Arc<Semaphore>, arrived: Arc<AtomicUsize>) -> Origin {
    Origin::http(move |_| {
        let (gate, arrived) = (Arc::clone(&gate), Arc::clone(&arrived));
        async move {
            arrived.fetch_add(1, SeqCst);
            gate.acquire().await.unwrap().forget();
            Response::new(full("old"))
        }
    })
    .await
}

#[tokio::test]
async fn an_endpoint_taken_out_finishes_exactly_what_it_has() {
    let (rig, gate, arrived) = (
        Rig::start().await,
        Arc::new(Semaphore::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (old, new) = (
        gated(Arc::clone(&gate), Arc::clone(&arrived)).await,
        Origin::text("new").await,
    );
    rig.serve(1, &[old.endpoint()]).await;
    let address = rig.address;
    let mut held = JoinSet::new();
    for _ in 0..5 {
        held.spawn(async move { get(address, HOST, "/").await.body });
    }
    eventually("five requests are there", || async {
        arrived.load(SeqCst) == 5
    })
    .await;
    rig.serve(2, &[new.endpoint()]).await;
    for left in (1..=5).rev() {
        let status = rig.status().await;
        assert_eq!((status.generation, status.draining.len()), (2, 1));
        assert_eq!(
            (&status.draining[0].endpoint, status.draining[0].in_flight),
            (&old.endpoint(), left)
        );
        assert_eq!(get(address, HOST, "/").await.body, "new");
        gate.add_permits(1);
        assert_eq!(held.join_next().await.unwrap().unwrap(), "old");
        eventually("one less is in flight", || async {
            let draining = rig.status().await.draining;
            draining.first().map_or(0, |draining| draining.in_flight) == left - 1
        })
        .await;
    }
    assert_eq!(arrived.load(SeqCst), 5);
    assert!(rig.status().await.draining.is_empty());
}

/// A server that must get nothing once it is told that it is out.
struct Watched {
    origin: Origin,
    out: Arc<AtomicBool>,
    late: Arc<AtomicUsize>,
}

impl Watched {
    async fn start() -> Self {
        let (out, late) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (is_out, count) = (Arc::clone(&out), Arc::clone(&late));
        let origin = Origin::http(move |_| {
            if is_out.load(SeqCst) {
                count.fetch_add(1, SeqCst);
            }
            async { Response::new(full("ok")) }
        })
        .await;
        Self { origin, out, late }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_load_lose_nothing_and_a_confirmed_drain_is_final() {
    let rig = Rig::start().await;
    let mut servers = vec![Watched::start().await];
    rig.serve(1, &[servers[0].origin.endpoint()]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        let (address, stop) = (rig.address, Arc::clone(&stop));
        clients.spawn(async move {
            let mut client = Raw::open(address).await;
            let mut answered = 0_usize;
            while !stop.load(SeqCst) {
                let answer = client
                    .ask(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
                    .await;
                assert_eq!((answer.status(), &*answer.body), (200, "ok"));
                answered += 1;
            }
            answered
        });
    }
    for generation in 2..60 {
        let (next, old) = (Watched::start().await, servers.pop().unwrap());
        rig.serve(generation, &[next.origin.endpoint()]).await;
        eventually("the old one is drained", || async {
            rig.status().await.draining.is_empty()
        })
        .await;
        old.out.store(true, SeqCst);
        // Stopped at once, as the order of a switch allows: whatever was still to come to it would fail.
        let Watched { origin, late, .. } = old;
        drop(origin);
        assert_eq!(late.load(SeqCst), 0);
        servers.push(next);
    }
    stop.store(true, SeqCst);
    let mut answered = 0;
    while let Some(client) = clients.join_next().await {
        answered += client.unwrap();
    }
    assert!(answered > 1_000, "only {answered} requests made it a test");
    assert!(rig.status().await.draining.is_empty());
}

fn holding(generation: u64, hold: Duration, origin: Option<&Origin>) -> Route {
    let endpoints: Vec<_> = origin.map(Origin::endpoint).into_iter().collect();
    let action = Action::Forward {
        targets: vec![target(1, &endpoints)],
        strip_prefix: false,
        hold,
    };
    route("web", generation, HOST, "/", action)
}

#[tokio::test]
async fn a_request_waits_for_the_first_endpoint_and_says_so() {
    let (rig, origin) = (Rig::start().await, Origin::text("awake").await);
    let mut signals = rig.ingress.watch().await.unwrap();
    rig.ingress
        .apply(&holding(1, Duration::from_secs(20), None))
        .await
        .unwrap();
    let address = rig.address;
    let waiting = tokio::spawn(async move { get(address, HOST, "/").await });
    let begun = Instant::now();
    let signal = signals.next().await.unwrap();
    assert_eq!(
        (signal.id, signal.waiting, signal.requests),
        (id("web"), 1, 0)
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
    rig.ingress
        .apply(&route(
            "other",
            1,
            "other.localhost",
            "/",
            crate::rig::forward(&[]),
        ))
        .await
        .unwrap();
    assert!(
        !waiting.is_finished(),
        "another route's change does not end the wait"
    );
    rig.ingress
        .apply(&holding(2, Duration::from_secs(20), Some(&origin)))
        .await
        .unwrap();
    assert_eq!(waiting.await.unwrap().body, "awake");
}

#[tokio::test]
async fn waiting_has_bounds() {
    let rig = Rig::with(|edge| edge.limits.held_per_route = 1).await;
    rig.ingress
        .apply(&holding(1, Duration::from_millis(50), None))
        .await
        .unwrap();
    assert_eq!(get(rig.address, HOST, "/").await.status(), 503);
    rig.ingress
        .apply(&holding(2, Duration::from_secs(60), None))
        .await
        .unwrap();
    let mut first = Raw::open(rig.address).await;
    first
        .send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .await;
    let mut signals = rig.ingress.watch().await.unwrap();
    assert_eq!(signals.next().await.unwrap().waiting, 1);
    let second = get(rig.address, HOST, "/").await;
    assert_eq!(second.status(), 503);
    assert!(second.body.contains("many requests wait"));
    drop(first);
    eventually("a client that leaves waits no more", || async {
        rig.ingress
            .metrics()
            .await
            .unwrap()
            .contains("route_waiting{route=\"default/default/production/app/web\"} 0")
    })
    .await;
}

#[tokio::test]
async fn a_request_in_flight_survives_the_end_of_its_route() {
    let (rig, gate, arrived) = (
        Rig::start().await,
        Arc::new(Semaphore::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let old = gated(Arc::clone(&gate), Arc::clone(&arrived)).await;
    rig.serve(1, &[old.endpoint()]).await;
    let address = rig.address;
    let held = tokio::spawn(async move { get(address, HOST, "/").await.body });
    eventually("the request is there", || async {
        arrived.load(SeqCst) == 1
    })
    .await;
    rig.ingress.remove(&id("web")).await.unwrap();
    assert_eq!(get(address, HOST, "/").await.status(), 404);
    gate.add_permits(1);
    assert_eq!(held.await.unwrap(), "old");
}

#[tokio::test]
async fn generations_only_rise() {
    let rig = Rig::start().await;
    let origin = Origin::text("x").await;
    rig.serve(5, &[]).await;
    rig.serve(5, &[]).await;
    for generation in [4, 5] {
        let refused = rig
            .ingress
            .apply(&crate::rig::web(generation, &[origin.endpoint()]))
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), tappaas_core::ErrorKind::Conflict);
    }
    assert_eq!(rig.status().await.generation, 5);
}
