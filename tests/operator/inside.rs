//! The operator as it is meant: inside of the cluster, from its own image.

use tappaas_testkit::conformance::until;

use crate::{
    cluster::Cluster,
    image,
    world::{READY, World},
};

const ENVIRONMENT: &str = "acme.shop.production";
const AVAILABLE: &str = ".status.availableReplicas";
const HOLDER: &str = ".spec.holderIdentity";

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_in_the_cluster_serves_and_is_replaced_when_it_goes() {
    let served = image::build_and_serve(&Cluster::find()).await;
    let world = World::install("inside", &served.reference, 2).await;
    let (cluster, own) = (&world.cluster, &world.installation.namespace);
    cluster
        .wait(own, "deployment/tappaas", AVAILABLE, "2")
        .await;
    let namespace = world.environment(ENVIRONMENT).await;
    let object = world.named("applications", "hello");
    let serve = |text| world.application(&namespace, "hello", &["/program", "serve", text, "1ms"]);
    cluster.apply(&[serve("one")]);
    cluster.wait(&namespace, &object, READY, "True").await;
    let host = cluster.value(&namespace, &object, ".status.hosts[0]");
    cluster.answers(&host, "one /").await;

    let leader = cluster.value(own, "lease/tappaas", HOLDER);
    let pod = format!("pod/{leader}");
    cluster.kubectl(&["delete", "-n", own, &pod, "--force", "--grace-period=0"]);
    cluster.apply(&[serve("two")]);
    cluster.answers(&host, "two /").await;
    let taken = until("another one leads", async || {
        let holder = cluster.value(own, "lease/tappaas", HOLDER);
        Ok((!holder.is_empty() && holder != leader).then_some(()))
    });
    taken.await.unwrap();

    cluster.kubectl(&["delete", "-n", &namespace, &object, "--timeout=120s"]);
    let environment = world.named("environments", ENVIRONMENT);
    cluster.kubectl(&["delete", &environment, "--timeout=120s"]);
    world.uninstall().await;
    served.end().await;
}
