//! Serves one host from one address, through an edge that outlives this program:
//! `edge STATE_DIRECTORY LISTEN HOST ENDPOINT [no-log]`. Ends when killed; started again it finds its edge still serving.

use std::{error::Error, io::Write, sync::Arc, time::Duration};

use async_trait::async_trait;
use tappaas_core::{
    Clock, Timestamp,
    backend::{Action, Endpoint, Frontend, IngressProvider, Route, RouteId, Target},
};
use tappaas_tls::{EdgeConfig, Ingress, IngressConfig, Place};

#[tokio::main(flavor = "current_thread")]
async fn serve() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let (words, no_log) = match arguments.split_last() {
        Some((last, words)) if last == "no-log" => (words, true),
        _ => (&arguments[..], false),
    };
    let [program, state, listen, host, endpoint] = words else {
        return Err("usage: edge STATE_DIRECTORY LISTEN HOST ENDPOINT [no-log]".into());
    };
    let default = EdgeConfig::default();
    let config = IngressConfig {
        state: state.into(),
        place: Place::Process {
            helper: program.into(),
        },
        edge: EdgeConfig {
            listen: vec![listen.parse()?],
            access_log: default.access_log.filter(|_| !no_log),
            ..EdgeConfig::default()
        },
    };
    let ingress = Ingress::start(config, Arc::new(SystemClock)).await?;
    let id = RouteId {
        application: "default/default/production/app".parse()?,
        name: "web".parse()?,
    };
    let last = ingress
        .observe(&id)
        .await?
        .map_or(0, |status| status.generation);
    let target = Target {
        weight: 1,
        endpoints: vec![Endpoint::Address(endpoint.parse()?)],
    };
    let route = Route {
        id,
        generation: last + 1,
        frontend: Frontend::Http {
            hosts: vec![host.parse()?],
            path: "/".to_owned(),
        },
        action: Action::Forward {
            targets: vec![target],
            strip_prefix: false,
            hold: Duration::ZERO,
        },
    };
    ingress.apply(&route).await?;
    let (edge, listen) = (ingress.pid().await?, ingress.listen().await?);
    writeln!(std::io::stdout(), "edge {edge} serves {host} on {listen:?}")?;
    std::future::pending().await
}

fn main() -> Result<(), Box<dyn Error>> {
    tappaas_tls::helper_main();
    serve()
}

#[derive(Debug)]
struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "a program tells the time")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
