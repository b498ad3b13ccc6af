//! Who leads, of several.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tappaas_etcd::{Candidate, Keyspace};
use tappaas_testkit::conformance::{stays, until};
use tokio::task::JoinHandle;

use crate::{etcd::Etcd, seat::open};

/// Counts who leads at a moment, and who ever did.
#[derive(Default)]
struct Count {
    now: AtomicU32,
    ever: AtomicU32,
}

impl Count {
    fn is(&self, now: u32, ever: u32) -> bool {
        let found = (
            self.now.load(Ordering::SeqCst),
            self.ever.load(Ordering::SeqCst),
        );
        found == (now, ever)
    }

    async fn becomes(&self, now: u32, ever: u32) {
        until("somebody leads", async || {
            Ok(self.is(now, ever).then_some(()))
        })
        .await
        .unwrap();
    }
}

/// Leads for as long as it can.
fn run(keyspace: &Keyspace, identity: &str, count: &Arc<Count>) -> JoinHandle<()> {
    let mut candidate = Candidate::new(keyspace, "server", identity);
    let count = Arc::clone(count);
    tokio::spawn(async move { candidate.lead(|| work(Arc::clone(&count))).await })
}

async fn work(count: Arc<Count>) {
    struct Leading(Arc<Count>);
    impl Drop for Leading {
        fn drop(&mut self) {
            self.0.now.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let before = count.now.fetch_add(1, Ordering::SeqCst);
    count.ever.fetch_add(1, Ordering::SeqCst);
    let _leading = Leading(count);
    assert_eq!(before, 0, "two lead");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_follows_when_it_is_gone() {
    let etcd = Etcd::start(&[]).await;
    let config = etcd.config("/t");
    let (one, other) = (open(&config).await.unwrap(), open(&config).await.unwrap());
    let count = Arc::new(Count::default());
    let first = run(&one, "first", &count);
    count.becomes(1, 1).await;
    let second = run(&other, "second", &count);
    stays("one leads", async || Ok(count.is(1, 1)))
        .await
        .unwrap();
    // Without a word, as when its process is killed.
    first.abort();
    count.becomes(1, 2).await;
    second.abort();
}

#[tokio::test]
async fn who_releases_the_lead_is_followed_at_once() {
    let etcd = Etcd::start(&[]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    let mut first = Candidate::new(&store, "server", "first");
    first.lead(|| std::future::ready(())).await;
    first.release().await.unwrap();
    let mut second = Candidate::new(&store, "server", "second");
    let led = second.lead(|| std::future::ready(()));
    tokio::time::timeout(Duration::from_secs(5), led)
        .await
        .unwrap();
}

#[tokio::test]
async fn who_is_started_again_under_its_name_leads_at_once() {
    let etcd = Etcd::start(&[]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    for _ in 0..2 {
        let mut same = Candidate::new(&store, "server", "same");
        let led = same.lead(|| std::future::ready(()));
        tokio::time::timeout(Duration::from_secs(5), led)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn who_loses_the_lead_stops_and_goes_on_later() {
    let etcd = Etcd::start(&[]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    let count = Arc::new(Count::default());
    let only = run(&store, "only", &count);
    count.becomes(1, 1).await;
    // `/t/leaders/server` is `x`, which never renews anything.
    let key = "L3QvbGVhZGVycy9zZXJ2ZXI=";
    etcd.ask("/v3/kv/put", json!({ "key": key, "value": "eA==" }))
        .await;
    count.becomes(0, 1).await;
    stays("nobody leads", async || Ok(count.is(0, 1)))
        .await
        .unwrap();
    etcd.ask("/v3/kv/deleterange", json!({ "key": key })).await;
    count.becomes(1, 2).await;
    only.abort();
}

#[tokio::test]
async fn the_lead_survives_a_restart_of_etcd() {
    let etcd = Etcd::start(&[]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    let count = Arc::new(Count::default());
    let first = run(&store, "first", &count);
    count.becomes(1, 1).await;
    let second = run(&store, "second", &count);
    etcd.kill();
    etcd.restart().await;
    stays("the first leads", async || Ok(count.is(1, 1)))
        .await
        .unwrap();
    first.abort();
    second.abort();
}

#[tokio::test]
async fn who_cannot_reach_etcd_stops_leading_in_time() {
    let etcd = Etcd::start(&[]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    let count = Arc::new(Count::default());
    let only = run(&store, "only", &count);
    count.becomes(1, 1).await;
    etcd.kill();
    count.becomes(0, 1).await;
    etcd.restart().await;
    count.becomes(1, 2).await;
    only.abort();
}
