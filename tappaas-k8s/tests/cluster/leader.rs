//! Who leads, of several.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use tappaas_k8s::Candidate;
use tappaas_testkit::conformance::until;
use tokio::task::JoinHandle;

use crate::{cluster::client, node::WallClock};

const NAMESPACE: &str = "default";

/// Counts who leads at a moment, and who ever did.
#[derive(Default)]
struct Count {
    now: AtomicU32,
    ever: AtomicU32,
}

/// Leads for as long as it can.
fn run(client: Client, lease: &str, identity: &str, count: &Arc<Count>) -> JoinHandle<()> {
    let (lease, identity) = (lease.to_owned(), identity.to_owned());
    let count = count.clone();
    tokio::spawn(async move {
        let mut candidate = Candidate::new(client, NAMESPACE, lease, identity, Arc::new(WallClock));
        candidate.lead(|| work(count.clone())).await;
    })
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

async fn leads(count: &Count, ever: u32) {
    until("somebody leads", async || {
        let counts = (
            count.now.load(Ordering::SeqCst),
            count.ever.load(Ordering::SeqCst),
        );
        Ok((counts == (1, ever)).then_some(()))
    })
    .await
    .unwrap();
}

async fn leases() -> Api<Lease> {
    Api::namespaced(client().await, NAMESPACE)
}

async fn fresh(name: &str) {
    leases()
        .await
        .delete(name, &DeleteParams::default())
        .await
        .ok();
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_follows_when_it_dies() {
    fresh("dies").await;
    let (client, count) = (client().await, Arc::new(Count::default()));
    let first = run(client.clone(), "dies", "first", &count);
    leads(&count, 1).await;
    let second = run(client, "dies", "second", &count);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(count.ever.load(Ordering::SeqCst), 1);
    // Without a word, as when its node is lost.
    first.abort();
    leads(&count, 2).await;
    second.abort();
}

#[tokio::test]
async fn who_releases_the_lease_is_followed_at_once() {
    fresh("released").await;
    let client = client().await;
    let mut first = Candidate::new(
        client.clone(),
        NAMESPACE,
        "released",
        "first",
        Arc::new(WallClock),
    );
    first.lead(|| std::future::ready(())).await;
    first.release().await.unwrap();
    let mut second = Candidate::new(client, NAMESPACE, "released", "second", Arc::new(WallClock));
    let led = second.lead(|| std::future::ready(()));
    tokio::time::timeout(Duration::from_secs(5), led)
        .await
        .unwrap();
}

#[tokio::test]
async fn who_loses_the_lease_stops_and_goes_on_later() {
    fresh("lost").await;
    let (client, count) = (client().await, Arc::new(Count::default()));
    let only = run(client, "lost", "only", &count);
    leads(&count, 1).await;
    let somebody = serde_json::json!({ "spec": { "holderIdentity": "somebody" } });
    leases()
        .await
        .patch("lost", &PatchParams::default(), &Patch::Merge(&somebody))
        .await
        .unwrap();
    until("nobody leads here", async || {
        Ok((count.now.load(Ordering::SeqCst) == 0).then_some(()))
    })
    .await
    .unwrap();
    // The other one never renews.
    leads(&count, 2).await;
    only.abort();
}
