//! Caches over watches that leave something out.

use std::{sync::Arc, time::Duration};

use tappaas_core::{
    Metadata, Name, Precondition, Scope, Store,
    client::Client,
    memory,
    model::{Environment, EnvironmentSpec},
};
use tappaas_testkit::faulty::{Fault, Faults, Faulty};
use tokio_util::task::AbortOnDropHandle;

const RELIST: Duration = Duration::from_secs(300);

/// A store, and a client of it whose watches lose their first event.
async fn forgetful() -> (Arc<memory::Store>, Client, AbortOnDropHandle<()>) {
    let clock = Arc::new(memory::Clock::new());
    let store = memory::Store::new(clock.clone(), Arc::new(memory::Ids::new()));
    let store = Arc::new(store);
    let faults = Arc::new(Faults::script([("watch item", 1, Fault::Miss)]));
    let faulty = Arc::new(Faulty::new(store.clone(), &faults));
    let client = Client::new(faulty, clock, RELIST);
    let running = client.clone();
    let feed = AbortOnDropHandle::new(tokio::spawn(async move { running.run().await }));
    client.sync().await;
    (store, client, feed)
}

fn project() -> Scope {
    let [tenant, project] = ["default", "default"].map(|name| Name::new(name).unwrap());
    Scope::project(tenant, project)
}

fn environment(name: &str) -> Environment {
    Environment::new(Metadata::new(&project(), name), EnvironmentSpec::default())
}

fn shown(client: &Client, name: &str) -> bool {
    let found = client.get::<EnvironmentSpec>(&project(), name);
    found.unwrap().is_some()
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_event_is_lost_is_soon_shown_to_who_made_it() {
    let (_, client, _feed) = forgetful().await;
    // Without its event, only time tells that something is missing.
    assert!(client.create(&environment("lost")).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(shown(&client, "lost"));
    client.create(&environment("next")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_object_of_somebody_else_whose_event_is_lost_is_shown_in_the_end() {
    let (store, client, _feed) = forgetful().await;
    let object = environment("lost").to_object().unwrap();
    store.put(object, Precondition::Absent).await.unwrap();
    tokio::time::sleep(RELIST / 2).await;
    assert!(!shown(&client, "lost"), "its event is lost");
    tokio::time::sleep(RELIST).await;
    assert!(shown(&client, "lost"));
}
