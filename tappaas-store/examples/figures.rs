//! What the store can do on this machine, next to what its disk can do: `cargo run --release --example figures -- DIRECTORY`.
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::{error::Error, fs::File, io::Write, path::Path, sync::Arc, time::Duration};

use serde_json::json;
use tappaas_core::{
    Key, Kind, Metadata, Name, Object, Precondition, Scope, Store, memory, object::API_VERSION,
};
use tappaas_store::{Config, Embedded};
use tokio::time::Instant;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const CELL: Duration = Duration::from_secs(1);
const APPLICATIONS: usize = 10_000;

#[tokio::main]
async fn main() -> Outcome {
    let directory = std::env::args_os()
        .nth(1)
        .ok_or("name a directory to write to")?;
    let directory = tempfile::tempdir_in(directory)?;
    let directory = directory.path();
    raw(directory)?;
    for writers in [1, 16, 64] {
        puts(&directory.join(format!("puts-{writers}")), writers).await?;
    }
    raw(directory)?;
    if std::env::args_os().nth(2).is_some() {
        return Ok(());
    }
    applications(&directory.join("applications")).await
}

/// Appends and syncs, as the simplest log would.
fn raw(directory: &Path) -> Outcome {
    let mut file = File::create(directory.join("raw"))?;
    let mut latencies = Vec::new();
    let start = Instant::now();
    while start.elapsed() < CELL {
        let began = Instant::now();
        file.write_all(&[7; 256])?;
        file.sync_data()?;
        latencies.push(began.elapsed());
    }
    report("append 256 B, fdatasync", start.elapsed(), latencies);
    Ok(())
}

async fn puts(directory: &Path, writers: usize) -> Outcome {
    let store = Arc::new(open(directory)?);
    let start = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| tokio::spawn(write(store.clone(), writer, start + CELL)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    report(
        &format!("put 256 B, {writers} writers"),
        start.elapsed(),
        latencies,
    );
    Ok(())
}

async fn write(store: Arc<Embedded>, writer: usize, end: Instant) -> Outcome<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut n = 0_usize;
    while Instant::now() < end {
        let name = format!("a-{writer}-{}", n % 100);
        let precondition = if n < 100 {
            Precondition::Absent
        } else {
            Precondition::Present
        };
        let object = application(&name, &format!("{n:0>256}"));
        let began = Instant::now();
        store.put(object, precondition).await?;
        latencies.push(began.elapsed());
        n += 1;
    }
    Ok(latencies)
}

/// Fills a store with applications of about 2 KiB, and looks at reading, compaction, reopening and memory.
async fn applications(directory: &Path) -> Outcome {
    let store = Arc::new(open(directory)?);
    let filler = "x".repeat(1500);
    let tasks: Vec<_> = (0..64)
        .map(|part| {
            let (store, filler) = (store.clone(), filler.clone());
            tokio::spawn(async move {
                for n in (part..APPLICATIONS).step_by(64) {
                    store
                        .put(
                            application(&format!("a-{n}"), &filler),
                            Precondition::Absent,
                        )
                        .await?;
                }
                Ok::<_, tappaas_core::Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    println!(
        "{APPLICATIONS} applications: file {} KiB, resident {} KiB",
        size(directory)?,
        resident()?
    );
    reads(&store).await?;
    compaction(&store).await?;
    let crashed = directory.join("crashed");
    std::fs::create_dir(&crashed)?;
    std::fs::copy(directory.join("store-1.redb"), crashed.join("store-1.redb"))?;
    reopen("after a crash", &crashed)?;
    let began = Instant::now();
    store.close();
    println!("close: {:?}", began.elapsed());
    drop(store);
    let store = reopen("after a clean close", directory)?;
    let began = Instant::now();
    let smaller = store.shrink().await?;
    println!(
        "shrink: {:?} ({smaller}), file {} KiB",
        began.elapsed(),
        size(directory)?
    );
    Ok(())
}

async fn reads(store: &Arc<Embedded>) -> Outcome {
    let start = Instant::now();
    let tasks: Vec<_> = (0..16)
        .map(|part| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                let mut n = part;
                while start.elapsed() < CELL {
                    n = (n + 7919) % APPLICATIONS;
                    let began = Instant::now();
                    let found = Store::get(&*store, &key(&format!("a-{n}"))).await?;
                    latencies.push(began.elapsed());
                    assert!(found.is_some());
                    tokio::task::yield_now().await;
                }
                Ok::<_, tappaas_core::Error>(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    report("get, 16 readers", start.elapsed(), latencies);
    println!("resident {} KiB", resident()?);
    let start = Instant::now();
    let mut request = tappaas_core::ListRequest::new(Kind::Application, Scope::cluster());
    loop {
        request.after = store.list(&request).await?.next;
        if request.after.is_none() {
            break;
        }
    }
    println!("list all: {:?}", start.elapsed());
    Ok(())
}

async fn compaction(store: &Arc<Embedded>) -> Outcome {
    for compacting in [false, true] {
        let start = Instant::now();
        let writers: Vec<_> = (100..108)
            .map(|writer| tokio::spawn(write(store.clone(), writer, start + CELL / 4)))
            .collect();
        if compacting {
            store.compact(100).await?;
            println!("compaction: {:?}", start.elapsed());
        }
        let mut latencies = Vec::new();
        for writer in writers {
            latencies.extend(writer.await??);
        }
        let doing = if compacting {
            "while compacting"
        } else {
            "before compacting"
        };
        report(
            &format!("put 256 B, 8 writers, {doing}"),
            start.elapsed(),
            latencies,
        );
        for writer in 100..108 {
            for n in 0..100 {
                store
                    .delete(&key(&format!("a-{writer}-{n}")), Precondition::Present)
                    .await?;
            }
        }
    }
    Ok(())
}

fn reopen(when: &str, directory: &Path) -> Outcome<Embedded> {
    let began = Instant::now();
    let store = open(directory)?;
    println!(
        "open {when}: {:?}, resident {} KiB",
        began.elapsed(),
        resident()?
    );
    Ok(store)
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
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    let rate = latencies.len() as f64 / elapsed.as_secs_f64();
    println!(
        "{what:<40} {rate:>9.0}/s  p50 {:>9.1?}  p99 {:>9.1?}",
        at(0.5),
        at(0.99)
    );
}

fn size(directory: &Path) -> Outcome<u64> {
    Ok(directory.join("store-1.redb").metadata()?.len() / 1024)
}

fn resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
