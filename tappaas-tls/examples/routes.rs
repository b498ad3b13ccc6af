//! How soon a change of routes is served, in lines of `figure NAME VALUE`: `routes STATE_DIRECTORY ROUTES CHANGES`. The edge is a process
//! of its own, has `ROUTES` routes already, and `CHANGES` times gets one more and gives one up.
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::{
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::future::try_join_all;
use tappaas_core::{
    Clock, Timestamp,
    backend::{Action, Endpoint, Frontend, IngressProvider, Route, RouteId, Target},
};
use tappaas_tls::{EdgeConfig, Ingress, IngressConfig, Place};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    tappaas_tls::helper_main();
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> Outcome {
    let words: Vec<String> = std::env::args().collect();
    let [program, state, routes, changes] = &words[..] else {
        return Err("usage: routes STATE_DIRECTORY ROUTES CHANGES".into());
    };
    let (routes, changes): (u64, u64) = (routes.parse()?, changes.parse()?);
    let origin = origin().await?;
    let config = IngressConfig {
        state: state.into(),
        place: Place::Process {
            helper: program.into(),
        },
        edge: EdgeConfig {
            listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
            ..EdgeConfig::default()
        },
    };
    let ingress = Ingress::start(config, Arc::new(SystemClock)).await?;
    let measured = change(&ingress, origin, routes, changes).await;
    ingress.stop(Duration::ZERO).await?;
    measured
}

async fn change(ingress: &Ingress, origin: SocketAddr, routes: u64, changes: u64) -> Outcome {
    let edge = ingress.listen().await?.remove(0);
    let began = Instant::now();
    let all = (0..routes)
        .map(|n| route(n, origin))
        .collect::<Outcome<Vec<_>>>()?;
    try_join_all(all.iter().map(|route| ingress.apply(route))).await?;
    println!("figure fill-ms {}", ms(began));
    for n in routes..routes + changes {
        let began = Instant::now();
        ingress.apply(&route(n, origin)?).await?;
        while !answers(edge, n).await? {}
        println!("figure change-ms {}", ms(began));
        ingress.remove(&route(n, origin)?.id).await?;
    }
    let pid = ingress.pid().await?;
    println!("figure edge-rss-mb {}", resident_mb(pid)?);
    Ok(())
}

fn host(n: u64) -> String {
    format!("app-{n}.example")
}

fn route(n: u64, origin: SocketAddr) -> Outcome<Route> {
    let target = Target {
        weight: 1,
        endpoints: vec![Endpoint::Address(origin)],
    };
    Ok(Route {
        id: RouteId {
            application: format!("default/default/production/app-{n}").parse()?,
            name: "web".parse()?,
        },
        generation: 1,
        frontend: Frontend::Http {
            hosts: vec![host(n).parse()?],
            path: "/".to_owned(),
        },
        action: Action::Forward {
            targets: vec![target],
            strip_prefix: false,
            hold: Duration::ZERO,
        },
    })
}

/// Answers every request alike.
async fn origin() -> Outcome<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                // A request of the edge's without a body comes in one piece.
                while connection
                    .read(&mut request)
                    .await
                    .is_ok_and(|read| read > 0)
                {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if connection.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

async fn answers(edge: SocketAddr, n: u64) -> Outcome<bool> {
    let mut connection = TcpStream::connect(edge).await?;
    let request = format!("GET / HTTP/1.0\r\nhost: {}\r\n\r\n", host(n));
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    Ok(answer.get(9..12) == Some(b"200"))
}

fn ms(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

fn resident_mb(pid: u32) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1e3)
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
