//! How fast content goes in and out: `cargo bench -p tappaas-registry`.
//!
//! Every figure includes the syncs, and so depends on the disk that holds the temporary directory. The last line is what the
//! disk and the hash give without a registry: the same bytes hashed, written and synced by one thread.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sha2::Digest as _;
use tappaas_core::{
    Clock, Digest, Ids, Timestamp,
    backend::{Content, Registry, Repository},
};
use tappaas_registry::{Config, Store, embedded, server};

const LARGE: usize = 64 << 20;
const SMALL: usize = 4 << 10;
const COUNT: u64 = 1000;
const RUNS: u64 = 5;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
struct World;

#[async_trait]
impl Clock for World {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl Ids for World {
    fn unique(&self) -> String {
        "one".to_owned()
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(
        Config::new(directory.path().join("registry")),
        Arc::new(World),
    )
    .await?;
    through_the_trait(&embedded::Registry::new(store.clone())).await?;
    through_http(store).await?;
    without_a_registry(directory.path())
}

async fn through_the_trait(registry: &dyn Registry) -> Result<(), Failure> {
    let repository: Repository = "bench".parse()?;
    let push = async |content: Bytes| {
        let address = Content::Blob(Digest::of(&content));
        let chunks: Vec<_> = content
            .chunks(64 << 10)
            .map(|chunk| Ok(content.slice_ref(chunk)))
            .collect();
        let begun = now();
        registry
            .push(&repository, &address, stream::iter(chunks).boxed())
            .await?;
        Ok::<_, Failure>((address, begun.elapsed()))
    };
    let (mut pushes, mut pulls) = (Vec::new(), Vec::new());
    for seed in 0..RUNS {
        let (address, took) = push(content(seed, LARGE)).await?;
        pushes.push(took);
        let begun = now();
        let chunks = registry.pull(&repository, &address).await?;
        chunks.try_for_each(async |_| Ok(())).await?;
        pulls.push(begun.elapsed());
    }
    report("trait, 64 MiB, push", &mut pushes, LARGE);
    report("trait, 64 MiB, verified pull", &mut pulls, LARGE);
    for width in [1, 16] {
        let contents = (0..COUNT).map(|n| content(1000 * width as u64 + n, SMALL));
        let begun = now();
        stream::iter(contents)
            .map(&push)
            .buffer_unordered(width)
            .try_for_each(async |_| Ok(()))
            .await?;
        rate(
            &format!("trait, 4 KiB blobs, {width} at once, push"),
            begun.elapsed(),
        );
    }
    Ok(())
}

async fn through_http(store: Store) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(server::serve(
        listener,
        server::router(store, Arc::new(World)),
        64,
        std::future::pending(),
    ));
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let send = async |method: Method, path: String, body: Bytes, wanted: StatusCode| {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{address}/v2/bench/{path}"));
        let mut reply = client.request(request.body(Full::new(body))?).await?;
        if reply.status() != wanted {
            return Err(Failure::from(format!("{path}: {}", reply.status())));
        }
        while let Some(frame) = reply.frame().await {
            frame?;
        }
        Ok::<_, Failure>(())
    };
    let push = async |content: Bytes| {
        let path = format!("blobs/uploads/?digest={}", Digest::of(&content));
        let begun = now();
        send(Method::POST, path, content, StatusCode::CREATED).await?;
        Ok::<_, Failure>(begun.elapsed())
    };
    let (mut pushes, mut pulls) = (Vec::new(), Vec::new());
    for seed in 0..RUNS {
        let content = content(100 + seed, LARGE);
        let digest = Digest::of(&content);
        pushes.push(push(content).await?);
        let begun = now();
        send(
            Method::GET,
            format!("blobs/{digest}"),
            Bytes::new(),
            StatusCode::OK,
        )
        .await?;
        pulls.push(begun.elapsed());
    }
    report("HTTP, 64 MiB, push", &mut pushes, LARGE);
    report("HTTP, 64 MiB, pull", &mut pulls, LARGE);
    for width in [1, 16] {
        let contents = (0..COUNT).map(|n| content(100_000 * width as u64 + n, SMALL));
        let begun = now();
        stream::iter(contents)
            .map(&push)
            .buffer_unordered(width)
            .try_for_each(async |_| Ok(()))
            .await?;
        rate(
            &format!("HTTP, 4 KiB blobs, {width} at once, push"),
            begun.elapsed(),
        );
    }
    Ok(())
}

fn without_a_registry(directory: &Path) -> Result<(), Failure> {
    let mut writes = Vec::new();
    for seed in 0..RUNS {
        let content = content(200 + seed, LARGE);
        let begun = now();
        let mut file = File::create(directory.join("plain"))?;
        let mut hash = sha2::Sha256::new();
        for chunk in content.chunks(512 << 10) {
            hash.update(chunk);
            file.write_all(chunk)?;
        }
        std::hint::black_box(hash.finalize());
        file.sync_data()?;
        writes.push(begun.elapsed());
    }
    report("no registry, 64 MiB, hash, write, sync", &mut writes, LARGE);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// Bytes that differ with the seed and do not compress.
fn content(seed: u64, len: usize) -> Bytes {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
fn report(what: &str, times: &mut [Duration], bytes: usize) {
    times.sort();
    let median = times[times.len() / 2];
    let rate = bytes as f64 / median.as_secs_f64() / f64::from(1 << 20);
    println!("{what}: {rate:.0} MiB/s");
}

#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
fn rate(what: &str, took: Duration) {
    println!(
        "{what}: {:.0} per second",
        COUNT as f64 / took.as_secs_f64()
    );
}
