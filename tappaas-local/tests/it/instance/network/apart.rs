use super::bridged::{Net, at};
use crate::instance::bench::needs_root;

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
    let own = format!("{} said \"hello\"\n", at(at_shop.address, 8080));
    assert!(
        heard.starts_with(&own) && heard.matches("said").count() == 1,
        "{heard}"
    );
    for (instance, application, id) in [(shop, "shop", "shop-web"), (bank, "bank", "bank-web")] {
        instance.remove().await.unwrap();
        net.networks.detach(application, id).await.unwrap();
    }
    net.check_census().await;
}
