//! An OCI registry in a directory: `cargo run --example registry -- DIRECTORY 127.0.0.1:5000`.
//!
//! Then, for example, `skopeo copy --dest-tls-verify=false oci:IMAGE docker://127.0.0.1:5000/team/app:v1`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tappaas_core::{Clock, Ids, Timestamp};
use tappaas_registry::{Config, Store, server};
use tokio::net::TcpListener;

#[derive(Debug)]
struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the program: it has the clock that it injects"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[derive(Debug, Default)]
struct Numbers(AtomicU64);

impl Ids for Numbers {
    fn unique(&self) -> String {
        self.0.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(address)) = (arguments.next(), arguments.next()) else {
        return Err("usage: serve DIRECTORY ADDRESS".into());
    };
    let store = Store::open(Config::new(directory), Arc::new(SystemClock)).await?;
    let listener = TcpListener::bind(address).await?;
    let connections_max = store.limits().connections_max;
    let router = server::router(store, Arc::new(Numbers::default()));
    server::serve(listener, router, connections_max, std::future::pending()).await;
    Ok(())
}
