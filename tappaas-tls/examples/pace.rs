//! Requests at a steady rate, and how long their answers take, in lines of `figure NAME VALUE`: `pace ADDRESS HOST CONNECTIONS RATE SECONDS`.
//! Each connection is asked again only when it has answered; one that is late asks at once.
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::{error::Error, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval_at},
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// An answer's head and body come in one piece: they are small.
const ANSWER_BYTES_MAX: usize = 16 << 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, host, connections, rate, seconds] = &words[..] else {
        return Err("usage: pace ADDRESS HOST CONNECTIONS RATE SECONDS".into());
    };
    let (address, connections): (SocketAddr, u32) = (address.parse()?, connections.parse()?);
    let each = Duration::from_secs_f64(f64::from(connections) / rate.parse::<f64>()?);
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds.parse()?);
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let mut tasks = Vec::new();
    for n in 0..connections {
        // Not all of them in one moment.
        let first = start + each * n / connections;
        tasks.push(tokio::spawn(ask(
            address,
            request.clone(),
            first,
            each,
            end,
        )));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    latencies.sort();
    let at = |part: usize| {
        latencies
            .get(latencies.len() * part / 100)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "figure rate {}",
        latencies.len() as f64 / start.elapsed().as_secs_f64()
    );
    println!("figure p50-ms {}", at(50).as_secs_f64() * 1e3);
    println!("figure p99-ms {}", at(99).as_secs_f64() * 1e3);
    Ok(())
}

async fn ask(
    address: SocketAddr,
    request: String,
    first: Instant,
    each: Duration,
    end: Instant,
) -> Outcome<Vec<Duration>> {
    let mut connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    let mut turns = interval_at(first, each);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut latencies = Vec::new();
    while turns.tick().await < end {
        let began = Instant::now();
        connection.write_all(request.as_bytes()).await?;
        let read = connection.read(&mut answer).await?;
        if answer[..read].get(9..12) != Some(b"200") {
            let shown = String::from_utf8_lossy(&answer[..read]).into_owned();
            return Err(format!("not the answer expected: {shown}").into());
        }
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}
