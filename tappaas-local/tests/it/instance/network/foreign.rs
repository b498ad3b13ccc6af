//! Ranges of addresses that somebody else has a right to.

use std::net::Ipv4Addr;

use rtnetlink::new_connection;
use tappaas_core::ErrorKind;
use tappaas_local::Networks;

use super::own::{on_a_machine_of_its_own, settings};
use crate::instance::bench::needs_root;

/// The first interface of every network namespace.
const LOOPBACK: u32 = 1;

async fn add_to_loopback(address: Ipv4Addr, prefix: u8) {
    let (connection, handle, _) = new_connection().unwrap();
    tokio::spawn(connection);
    let added = handle.address().add(LOOPBACK, address.into(), prefix);
    added.execute().await.unwrap();
}

#[tokio::test]
async fn a_public_range_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.range.base = Ipv4Addr::new(198, 51, 0, 0);
    let refused = Networks::open(folder.path(), &settings).await.unwrap_err();
    assert!(
        refused.to_string().contains("not a private one"),
        "{refused}"
    );
}

#[test]
fn a_range_that_somebody_else_uses_is_refused_unless_instances_have_it_already() {
    if needs_root("networks of applications") {
        return;
    }
    on_a_machine_of_its_own(async || {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = settings();
        let networks = Networks::open(old.path(), &settings).await.unwrap();
        let shop = networks.attach("shop", "web").await.unwrap();
        // The half of the range that the instance is not in.
        let half = |address: Ipv4Addr| address.octets()[2] / 128;
        let other_half = 128 * (1 - half(shop.address));
        let [first, second, ..] = settings.range.base.octets();
        let foreign = Ipv4Addr::new(first, second, other_half, 1);
        add_to_loopback(foreign, 17).await;
        let refused = Networks::open(new.path(), &settings).await.unwrap_err();
        assert!(
            refused.to_string().contains("choose another range"),
            "{refused}"
        );
        let networks = Networks::open(old.path(), &settings).await.unwrap();
        assert_eq!(networks.attach("shop", "web").await.unwrap(), shop);
        for number in 0..8 {
            let other = networks.attach(&format!("other-{number}"), "web").await;
            assert_ne!(half(other.unwrap().address), half(foreign));
        }
        // All of it, and more.
        add_to_loopback(Ipv4Addr::new(first, second, other_half, 2), 8).await;
        assert_eq!(networks.attach("shop", "web").await.unwrap(), shop);
        let refused = networks.attach("late", "web").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.to_string().contains("of lo"), "{refused}");
        networks.clear().await.unwrap();
    });
}
