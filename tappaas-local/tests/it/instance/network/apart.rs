use tappaas_local::{Attachment, Instance};

use super::bridged::{Net, at, said};
use crate::instance::bench::needs_root;

#[tokio::test]
async fn an_instance_is_reached_by_the_machine_and_its_own_application_alone() {
    if needs_root("networks of applications") {
        return;
    }
    let net = Net::new().await;
    let (shop, at_shop) = net.server("shop", "shop-web").await;
    let (bank, at_bank) = net.server("bank", "bank-web").await;
    assert_ne!(at_shop.bridge, at_bank.bridge);
    assert_eq!(said(at_shop.address, 8080).await.as_deref(), Some("hello"));
    assert_eq!(
        shop.endpoint(8080),
        tappaas_core::backend::Endpoint::Address((at_shop.address, 8080).into())
    );
    let heard = net
        .hears(
            "shop",
            &[at(at_shop.address, 8080), at(at_bank.address, 8080)],
        )
        .await;
    assert_own_alone(&heard, &at_shop);
    end(net, shop, bank).await;
}

#[tokio::test]
async fn datagrams_and_guessed_addresses_reach_no_other_application() {
    if needs_root("networks of applications") {
        return;
    }
    let net = Net::new().await;
    let how = "a_server_of_datagrams";
    let (shop, at_shop) = net.serving("shop", "shop-web", how).await;
    let (bank, at_bank) = net.serving("bank", "bank-web", how).await;
    let bank_bits = at_bank.address.to_bits();
    // Its neighbours on the wire, its own machine's end, and everybody.
    let guessed = [1, 2, 3, 4, 255].map(|last| at(((bank_bits & !0xff) | last).into(), 8080));
    let targets = [
        &[at(at_shop.address, 8080), at(at_bank.address, 8080)][..],
        &guessed,
    ]
    .concat();
    let heard = net
        .hears_by("shop", &targets, "a_client_of_datagrams")
        .await;
    assert_own_alone(&heard, &at_shop);
    end(net, shop, bank).await;
}

/// Asserts that of all whom it tried an application heard itself.
fn assert_own_alone(heard: &str, own: &Attachment) {
    let own = format!("{} said \"hello\"\n", at(own.address, 8080));
    assert!(
        heard.starts_with(&own) && heard.matches("said").count() == 1,
        "{heard}"
    );
}

async fn end(net: Net, shop: Instance, bank: Instance) {
    for (instance, application, id) in [(shop, "shop", "shop-web"), (bank, "bank", "bank-web")] {
        instance.remove().await.unwrap();
        net.networks.detach(application, id).await.unwrap();
    }
    net.check_census().await;
}
