//! What the store can do on this machine, in lines of `figure NAME VALUE`. `cargo xtask bench store` puts them beside those of its peers.
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::{
    error::Error,
    fs::File,
    io::Write,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tappaas_core::{
    Key, Kind, Metadata, Name, Object, Precondition, Scope, Store, memory, object::API_VERSION,
};
use tappaas_store::{Config, Embedded};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: figures sync DIRECTORY | figures puts DIRECTORY WRITERS | figures compaction DIRECTORY OBJECTS | figures reopening DIRECTORY OBJECTS";
/// How long something is measured.
const CELL: Duration = Duration::from_secs(3);
/// Keys of each writer, so that most writes replace something.
const KEYS: u64 = 100;
const FILE: &str = "store-1.redb";
const FILLERS: u64 = 64;
/// Who writes while changes are forgotten.
const BYSTANDERS: Range<u64> = 100..108;

#[tokio::main]
async fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (what, directory) = match &words[..] {
        [what, directory] | [what, directory, _] => (what.as_str(), directory),
        _ => return Err(USAGE.into()),
    };
    let directory = tempfile::tempdir_in(directory)?;
    let directory = directory.path();
    match (what, words.get(2).map(|word| word.parse::<u64>())) {
        ("sync", None) => sync(directory),
        ("puts", Some(Ok(writers))) => puts(directory, writers).await,
        ("compaction", Some(Ok(objects))) => compaction(directory, objects).await,
        ("reopening", Some(Ok(objects))) => reopening(directory, objects).await,
        _ => Err(USAGE.into()),
    }
}

/// Appends and syncs, as the simplest log would.
fn sync(directory: &Path) -> Outcome {
    let mut file = File::create(directory.join("raw"))?;
    let mut latencies = Vec::new();
    let start = Instant::now();
    while start.elapsed() < CELL {
        let began = Instant::now();
        file.write_all(&[7; 256])?;
        file.sync_data()?;
        latencies.push(began.elapsed());
    }
    report("sync", start.elapsed(), latencies);
    Ok(())
}

/// Writers that each wait for one write before the next.
async fn puts(directory: &Path, writers: u64) -> Outcome {
    let store = Arc::new(open(directory)?);
    let (start, stop) = (Instant::now(), Arc::<AtomicBool>::default());
    let tasks = writing(&store, 0..writers, &stop);
    sleep(CELL).await;
    stop.store(true, Ordering::Relaxed);
    let latencies = gathered(tasks).await?;
    report("put", start.elapsed(), latencies);
    Ok(())
}

/// Writers in a store with many old changes: at first alone, then while those are forgotten.
async fn compaction(directory: &Path, objects: u64) -> Outcome {
    let store = filled(directory, objects).await?;
    for compacting in [false, true] {
        let (start, stop) = (Instant::now(), Arc::<AtomicBool>::default());
        let tasks = writing(&store, BYSTANDERS, &stop);
        let name = if compacting {
            store.compact(KEYS).await?;
            println!("figure compaction-ms {}", ms(start.elapsed()));
            "compacting"
        } else {
            sleep(CELL).await;
            "quiet"
        };
        stop.store(true, Ordering::Relaxed);
        let latencies = gathered(tasks).await?;
        report(name, start.elapsed(), latencies);
    }
    Ok(())
}

/// Opens a store with many objects, as a crash left it and as an orderly end did.
async fn reopening(directory: &Path, objects: u64) -> Outcome {
    let store = filled(directory, objects).await?;
    let crashed = directory.join("crashed");
    std::fs::create_dir(&crashed)?;
    std::fs::copy(directory.join(FILE), crashed.join(FILE))?;
    store.close();
    drop(store);
    println!(
        "figure file-kib {}",
        directory.join(FILE).metadata()?.len() / 1024
    );
    for (name, directory) in [("crashed", &*crashed), ("closed", directory)] {
        let began = Instant::now();
        let store = open(directory)?;
        println!("figure {name}-ms {}", ms(began.elapsed()));
        drop(store);
    }
    Ok(())
}

/// A store with objects of about 2 KiB, and as many changes.
async fn filled(directory: &Path, objects: u64) -> Outcome<Arc<Embedded>> {
    let store = Arc::new(open(directory)?);
    let fill = |part| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in (part..objects).step_by(FILLERS as usize) {
                let object = application(&format!("a-{n}"), &"x".repeat(1500));
                store.put(object, Precondition::Absent).await?;
            }
            Ok::<_, tappaas_core::Error>(())
        })
    };
    for task in (0..FILLERS).map(fill).collect::<Vec<_>>() {
        task.await??;
    }
    Ok(store)
}

type Writing = JoinHandle<Outcome<Vec<Duration>>>;

fn writing(store: &Arc<Embedded>, writers: Range<u64>, stop: &Arc<AtomicBool>) -> Vec<Writing> {
    let write = |writer| tokio::spawn(write(store.clone(), writer, stop.clone()));
    writers.map(write).collect()
}

async fn write(store: Arc<Embedded>, writer: u64, stop: Arc<AtomicBool>) -> Outcome<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let name = format!("a-{writer}-{}", n % KEYS);
        let object = application(&name, &format!("{n:0>256}"));
        let precondition = match n < KEYS && store_is_new(&store, &name).await? {
            true => Precondition::Absent,
            false => Precondition::Present,
        };
        let began = Instant::now();
        store.put(object, precondition).await?;
        latencies.push(began.elapsed());
        n += 1;
    }
    Ok(latencies)
}

async fn store_is_new(store: &Embedded, name: &str) -> Outcome<bool> {
    Ok(Store::get(store, &key(name)).await?.is_none())
}

async fn gathered(tasks: Vec<Writing>) -> Outcome<Vec<Duration>> {
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(latencies)
}

fn open(directory: &Path) -> Outcome<Embedded> {
    let (clock, ids) = (memory::Clock::new(), memory::Ids::new());
    Ok(Embedded::open(
        Config::new(directory),
        Arc::new(clock),
        Arc::new(ids),
    )?)
}

fn application(name: &str, value: &str) -> Object {
    let key = key(name);
    Object {
        api_version: API_VERSION.into(),
        kind: key.kind,
        metadata: Metadata::new(&key.scope, name),
        spec: json!({ "value": value }),
        status: json!(null),
    }
}

fn key(name: &str) -> Key {
    let [tenant, project, environment] =
        ["one", "p", "e"].map(|name| Name::new(name).expect("a constant"));
    Key::new(
        Kind::Application,
        Scope::environment(tenant, project, environment),
        name,
    )
}

fn report(what: &str, elapsed: Duration, mut latencies: Vec<Duration>) {
    latencies.sort();
    let at = |part: usize| {
        latencies
            .get(latencies.len() * part / 100)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "figure {what}-per-s {}",
        latencies.len() as f64 / elapsed.as_secs_f64()
    );
    println!("figure {what}-p50-ms {}", ms(at(50)));
    println!("figure {what}-p99-ms {}", ms(at(99)));
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
