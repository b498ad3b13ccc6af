//! Load for an etcd that runs already, in lines of `figure NAME VALUE`: as many connections as `figures puts` has writers, each of
//! which waits for one put before the next. `etcd ADDRESS CONNECTIONS`
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::{error::Error, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    client::conn::http2::{self, SendRequest},
    header,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time::Instant};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const CELL: Duration = Duration::from_secs(3);
const KEYS: u64 = 100;
const VALUE_BYTES: usize = 256;

#[tokio::main]
async fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, connections] = &words[..] else {
        return Err("usage: etcd ADDRESS CONNECTIONS".into());
    };
    let (address, connections): (SocketAddr, u64) = (address.parse()?, connections.parse()?);
    let mut senders = Vec::new();
    for _ in 0..connections {
        senders.push(connect(address).await?);
    }
    let start = Instant::now();
    let tasks: Vec<_> = (0..)
        .zip(senders)
        .map(|(writer, sender)| tokio::spawn(write(sender, address, writer, start + CELL)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    report(start.elapsed(), latencies);
    Ok(())
}

async fn connect(address: SocketAddr) -> Outcome<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn write(
    mut sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    writer: u64,
    end: Instant,
) -> Outcome<Vec<Duration>> {
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let n = latencies.len() as u64;
        let key = format!("/one/p/e/a-{writer}-{}", n % KEYS);
        let value = format!("{n:0>VALUE_BYTES$}");
        let began = Instant::now();
        put(&mut sender, address, &key, &value).await?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

/// One call of `etcdserverpb.KV/Put`.
async fn put(
    sender: &mut SendRequest<Full<Bytes>>,
    address: SocketAddr,
    key: &str,
    value: &str,
) -> Outcome {
    let request = Request::post(format!("http://{address}/etcdserverpb.KV/Put"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(message(key, value)))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let refused = |status| format!("etcd refused a put with gRPC status {status:?}");
    // A refusal without a body has its status in the head.
    if let Some(status) = response.headers().get("grpc-status") {
        return Err(refused(status.clone()).into());
    }
    let answer = response.into_body().collect().await?;
    match answer
        .trailers()
        .and_then(|trailers| trailers.get("grpc-status"))
    {
        Some(status) if status == "0" => Ok(()),
        Some(status) => Err(refused(status.clone()).into()),
        None => Err("etcd's answer has no status".into()),
    }
}

/// A `PutRequest` in protocol buffers (field 1 the key, field 2 the value), behind gRPC's five bytes: not compressed, and its length.
fn message(key: &str, value: &str) -> Bytes {
    let mut request = Vec::new();
    for (tag, field) in [(0x0a, key), (0x12, value)] {
        request.push(tag);
        let mut length = field.len();
        while length >= 0x80 {
            request.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        request.push(length as u8);
        request.extend(field.as_bytes());
    }
    let mut message = vec![0];
    message.extend((request.len() as u32).to_be_bytes());
    message.extend(request);
    message.into()
}

fn report(elapsed: Duration, mut latencies: Vec<Duration>) {
    latencies.sort();
    let at = |part: usize| {
        latencies
            .get(latencies.len() * part / 100)
            .copied()
            .unwrap_or_default()
    };
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!(
        "figure put-per-s {}",
        latencies.len() as f64 / elapsed.as_secs_f64()
    );
    println!("figure put-p50-ms {}", ms(at(50)));
    println!("figure put-p99-ms {}", ms(at(99)));
}
