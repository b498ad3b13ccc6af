//! What may go wrong around an operator, and in it.

use std::{collections::BTreeMap, time::Duration};

use tappaas_testkit::conformance::until;
use tokio::time::sleep;

use crate::{
    trouble::Trouble,
    world::{Operator, READY, World},
};

const ENVIRONMENT: &str = "acme.shop.production";
/// So often an operator is killed while it deploys, and while it removes, each time a moment later.
const KILLS: u32 = 6;
const LATER: Duration = Duration::from_millis(400);
/// So long nothing happens.
const QUIET: Duration = Duration::from_secs(20);
/// More requests than this, for two releases and their end, are a loop.
const REQUESTS_MAX: u32 = 5_000;
/// More lines in a log than this, for one outage, is a loop.
const LINES_MAX: usize = 200;

#[tokio::test]
async fn an_operator_killed_at_any_step_is_succeeded_by_one_that_goes_on() {
    let (world, operator, namespace) = World::begun("kills", ENVIRONMENT).await;
    let cluster = &world.cluster;
    operator.kill();
    let object = world.named("applications", "hello");
    let serve =
        |text: &str| world.application(&namespace, "hello", &["/program", "serve", text, "1ms"]);
    for kill in 1..=KILLS {
        cluster.apply(&[serve(&format!("round {kill}"))]);
        let operator = world.begin("one");
        sleep(LATER * kill).await;
        operator.kill();
    }
    let operator = world.operator("one").await;
    cluster.wait(&namespace, &object, READY, "True").await;
    let host = cluster.value(&namespace, &object, ".status.hosts[0]");
    cluster.answers(&host, &format!("round {KILLS} /")).await;
    for kind in [
        "deployments",
        "httproutes",
        "serviceaccounts",
        "poddisruptionbudgets",
    ] {
        let found = cluster.kubectl(&["get", "-n", &namespace, kind, "-o=name"]);
        let ours = found.lines().filter(|name| name.contains("hello"));
        let most = usize::from(kind != "poddisruptionbudgets");
        assert_eq!(ours.count(), most, "{found}");
    }
    operator.kill();

    cluster.kubectl(&["delete", "-n", &namespace, &object, "--wait=false"]);
    for kill in 1..=KILLS {
        let operator = world.begin("one");
        sleep(LATER * kill).await;
        operator.kill();
    }
    let operator = world.operator("one").await;
    world.end(operator).await;
}

#[tokio::test]
async fn a_quiet_operator_asks_for_nothing_but_its_lease() {
    let (world, operator, namespace) = World::begun("quiet", ENVIRONMENT).await;
    let cluster = &world.cluster;
    let object = world.named("applications", "hello");
    let words = ["/program", "serve", "hello", "1ms"];
    cluster.apply(&[world.application(&namespace, "hello", &words)]);
    cluster.wait(&namespace, &object, READY, "True").await;

    quiet(&operator).await;

    // Nor is there anything to write for one that begins where all is done.
    let before = cluster.value(&namespace, &object, ".metadata.resourceVersion");
    operator.terminate();
    let next = world.operator("two").await;
    let leads = until("the next one leads", async || {
        Ok(next.leads().then_some(()))
    });
    leads.await.unwrap();
    quiet(&next).await;
    let mut writes = asked(&next);
    let reads = ["\"get\"", "\"list\"", "\"selfsubjectaccessreviews"];
    writes.retain(|what, _| reads.iter().all(|read| !what.contains(read)));
    assert!(writes.is_empty(), "{writes:#?}");
    let after = cluster.value(&namespace, &object, ".metadata.resourceVersion");
    assert_eq!(after, before);
    world.end(next).await;
}

/// Waits until an operator has asked for nothing in a while.
async fn quiet(operator: &Operator) {
    let mut more = BTreeMap::new();
    let quiet = until("the operator is quiet", async || {
        let before = asked(operator);
        assert!(!before.is_empty(), "requests are counted");
        sleep(QUIET).await;
        more = asked(operator);
        more.retain(|what, count| {
            *count -= before.get(what).copied().unwrap_or(0);
            *count > 0
        });
        Ok(more.is_empty().then_some(()))
    });
    if let Err(error) = quiet.await {
        panic!("{error:?}: {more:#?}\n{}", operator.log());
    }
}

/// How often an operator has asked for what. Its lease is left out, and its watches: one ends by itself now and then, and is begun again.
fn asked(operator: &Operator) -> BTreeMap<String, u64> {
    let figures = operator.admin("/metrics").unwrap_or_default();
    let counts = figures.lines().filter_map(|line| {
        let line = line.strip_prefix("tappaas_kubernetes_requests_total")?;
        let (what, count) = line.rsplit_once(' ')?;
        Some((what.to_owned(), count.parse().ok()?))
    });
    counts
        .filter(|(what, _)| !what.contains("leases") && !what.contains("\"watch\""))
        .collect()
}

#[tokio::test]
async fn an_api_server_that_is_killed_and_comes_back_is_followed_again() {
    let world = World::alone("outage").await;
    let cluster = &world.cluster;
    let operator = world.operator("one").await;
    let namespace = world.environment(ENVIRONMENT).await;
    let object = world.named("applications", "hello");
    let serve = |text| world.application(&namespace, "hello", &["/program", "serve", text, "1ms"]);
    cluster.apply(&[serve("one")]);
    cluster.wait(&namespace, &object, READY, "True").await;
    let host = cluster.value(&namespace, &object, ".status.hosts[0]");
    // The gateway follows ready pods in its own time.
    cluster.answers(&host, "one /").await;

    for text in ["two", "three"] {
        cluster.kill("kube-apiserver");
        // What runs goes on without it.
        let page = cluster.page(&host).unwrap();
        assert_eq!(page.0, 200, "{page:?}");
        let back = until("the API server is back", async || {
            let applied = cluster.try_kubectl(&["apply", "-f", "-"], &serve(text).to_string());
            Ok(applied.ok())
        });
        back.await.unwrap();
        cluster.answers(&host, &format!("{text} /")).await;
    }
    let log = operator.log();
    assert!(log.lines().count() < LINES_MAX, "{log}");

    world.end(operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_on_the_way_to_the_api_server_the_end_is_the_same() {
    let mut world = World::install("trouble", "unused", 0).await;
    let trouble = Trouble::begin(&world.cluster).await;
    world.through(&trouble.server);
    let operator = world.operator("one").await;
    let namespace = world.environment(ENVIRONMENT).await;
    let (cluster, object) = (&world.cluster, world.named("applications", "hello"));
    let serve = |text| world.application(&namespace, "hello", &["/program", "serve", text, "1ms"]);
    cluster.apply(&[serve("one")]);
    cluster.wait(&namespace, &object, READY, "True").await;
    let host = cluster.value(&namespace, &object, ".status.hosts[0]");
    cluster.apply(&[serve("two")]);
    cluster.answers(&host, "two /").await;
    world.clear();

    let (counts, log) = (trouble.counts(), operator.log());
    assert!(!log.contains("panicked"), "{log}");
    let each = [
        counts.conflicts,
        counts.lost_replies,
        counts.expired_watches,
    ];
    assert!(each.iter().all(|&count| count > 5), "{counts:?}");
    assert!(counts.requests < REQUESTS_MAX, "{counts:?}\n{log}");
    operator.terminate();
    world.uninstall().await;
}
