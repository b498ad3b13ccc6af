use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tappaas_api::{client::Client, types::ProjectPath};
use tappaas_core::{Digest, Name};
use tokio::task::JoinSet;

use super::platform::Platform;

/// Rounds, if nobody asks for another number.
const ROUNDS: u64 = 50;
const WRITERS: u64 = 60;
const READERS: u64 = 4;
/// The latest moment of a round at which the server is killed.
const KILL_MAX_MS: u64 = 400;

/// What a client was told about a thing that it made, in the order of its requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    /// It was asked for, and nothing was said yet.
    Asked,
    Made,
    /// It was to be removed, and nothing was said yet.
    AskedAway,
    Gone,
}

type Ledger = Arc<Mutex<BTreeMap<Name, Told>>>;

#[test]
fn what_64_clients_were_told_is_so_after_every_kill() {
    let platform = Platform::served();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = Client::new(platform.data().join("api.sock"));
    let ledger = Ledger::default();
    for round in 0..rounds() {
        let mut clients = JoinSet::new();
        let _context = runtime.enter();
        for number in 0..WRITERS {
            clients.spawn(write(client.clone(), ledger.clone(), round, number));
        }
        for _ in 0..READERS {
            clients.spawn(read(client.clone(), ledger.clone()));
        }
        let moment = Digest::of(format!("round {round}"));
        let moment = u64::from_str_radix(&moment.hex()[..8], 16).unwrap() % KILL_MAX_MS;
        std::thread::sleep(Duration::from_millis(moment));
        platform.kill_server();
        runtime.block_on(async {
            while let Some(client) = clients.join_next().await {
                client.unwrap();
            }
        });
        platform.serve_again();
        let there = runtime.block_on(list(&client)).unwrap();
        compare(&mut ledger.lock().unwrap(), &there, round);
    }
    let ledger = ledger.lock().unwrap();
    let of = |told| ledger.values().filter(|one| **one == told).count();
    let (made, gone) = (of(Told::Made), of(Told::Gone));
    println!("{made} made and {gone} gone, as was told");
    assert!(made > 0 && gone > 0, "nobody was told anything");
}

/// `cargo xtask soak` asks for more.
fn rounds() -> u64 {
    let asked = std::env::var("TAPPAAS_KILLS").ok();
    asked.map_or(ROUNDS, |asked| asked.parse().unwrap())
}

fn project() -> ProjectPath {
    let default = Name::new("default").unwrap();
    ProjectPath {
        tenant: default.clone(),
        project: default,
    }
}

/// Makes one thing after the other, and removes every third again, until nobody answers.
async fn write(client: Client, ledger: Ledger, round: u64, number: u64) {
    let tell = |name: &Name, told| _ = ledger.lock().unwrap().insert(name.clone(), told);
    for count in 0.. {
        let name = Name::new(format!("r{round}-c{number}-n{count}")).unwrap();
        tell(&name, Told::Asked);
        if client.create_environment(&project(), &name).await.is_err() {
            return;
        }
        tell(&name, Told::Made);
        if count % 3 == 0 {
            tell(&name, Told::AskedAway);
            if client.remove_environment(&project(), &name).await.is_err() {
                return;
            }
            tell(&name, Told::Gone);
        }
    }
}

/// Looks, again and again until nobody answers, whether everything is there that somebody was told is, before it asked.
async fn read(client: Client, ledger: Ledger) {
    loop {
        let before = ledger.lock().unwrap().clone();
        let Ok(there) = list(&client).await else {
            return;
        };
        let after = ledger.lock().unwrap();
        for (name, told) in &before {
            match told {
                Told::Made if after[name] == Told::Made => {
                    assert!(there.contains(name), "{name} was made, and is not listed");
                }
                Told::Gone => assert!(!there.contains(name), "{name} is gone, and is listed"),
                Told::Asked | Told::Made | Told::AskedAway => {}
            }
        }
    }
}

async fn list(client: &Client) -> tappaas_core::Result<BTreeSet<Name>> {
    let list = client.environments(&project()).await?;
    Ok(list.items.into_iter().map(|one| one.name).collect())
}

/// What was told is so. What nobody was told about is one or the other, and stays that from now on.
fn compare(ledger: &mut BTreeMap<Name, Told>, there: &BTreeSet<Name>, round: u64) {
    for (name, told) in ledger.iter_mut() {
        let found = there.contains(name);
        match told {
            Told::Made => assert!(found, "round {round}: {name} was made, and is lost"),
            Told::Gone => assert!(!found, "round {round}: {name} was removed, and is back"),
            Told::Asked | Told::AskedAway if found => *told = Told::Made,
            Told::Asked | Told::AskedAway => *told = Told::Gone,
        }
    }
    for name in there.iter().filter(|name| name.as_str() != "production") {
        assert!(
            ledger.contains_key(name),
            "round {round}: nobody asked for {name}"
        );
    }
}
