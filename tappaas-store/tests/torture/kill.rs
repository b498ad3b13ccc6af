use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::try_join_all};
use tappaas_core::{
    Batch, Durable, ErrorKind, Event, Ids, Kind, ListRequest, Object, Precondition, Revision,
    Scope, Store, memory,
};
use tappaas_store::{Config, Embedded};

use crate::{
    Outcome,
    model::{id_of, object},
    random::Random,
};

const WRITERS: u64 = 64;
const COUNTERS: u64 = 4;
const TABLE: &str = "answered";

/// How long a writer lives if nobody kills it.
const LIFETIME: Duration = Duration::from_secs(60);

/// After how many answers at most a writer is killed.
const ANSWERS_MAX: u64 = 3000;

/// Lets a process write, kills it, and looks whether all that it was answered is there: so many times on one directory.
pub(crate) fn soak(first: u64, rounds: u64) -> Outcome {
    let directory = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut answered = Answered::default();
    for round in first..first + rounds {
        let after = 1 + Random::new(round).below(ANSWERS_MAX);
        for line in write_and_be_killed(directory.path(), after)? {
            answered.note(&line)?;
        }
        let checked = runtime.block_on(answered.check(directory.path()));
        checked.map_err(|error| format!("round {round}: {error:?}"))?;
    }
    println!(
        "{rounds} rounds: {} rows and {} counts answered",
        answered.rows.len(),
        answered.counts.len()
    );
    Ok(())
}

/// Starts this program again as the writer, kills it after so many answers, and returns all of them.
fn write_and_be_killed(directory: &Path, after: u64) -> Outcome<Vec<String>> {
    let program = std::env::args_os()
        .next()
        .ok_or("no name of this program")?;
    let mut command = Command::new(program);
    let mut child = command
        .arg("write")
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    let mut lines = Vec::new();
    for line in BufReader::new(output).lines() {
        lines.push(line?);
        if lines.len() as u64 == after {
            child.kill()?;
        }
    }
    child.wait()?;
    if (lines.len() as u64) < after {
        return Err(format!("the writer ended by itself after {} answers", lines.len()).into());
    }
    // The last line may be cut off.
    lines.pop();
    Ok(lines)
}

/// What the writers were answered, over all rounds.
#[derive(Debug, Default)]
struct Answered {
    rows: BTreeSet<String>,
    /// The revision of each count of each counter.
    counts: BTreeMap<(String, u64), u64>,
    rounds: u64,
}

impl Answered {
    fn note(&mut self, line: &str) -> Outcome {
        match *line.split(' ').collect::<Vec<_>>() {
            ["row", key] => {
                self.rows.insert(key.to_owned());
            }
            ["count", name, count, revision] => {
                let earlier = self
                    .counts
                    .insert((name.to_owned(), count.parse()?), revision.parse()?);
                if earlier.is_some() {
                    return Err(format!("{name} was raised to {count} twice").into());
                }
            }
            _ => return Err(format!("the writer printed `{line}`").into()),
        }
        Ok(())
    }

    async fn check(&mut self, directory: &Path) -> Outcome {
        self.rounds += 1;
        let store = open(directory)?;
        self.check_rows(&store).await?;
        self.check_counters(&store).await
    }

    /// Every answered row is there, and hardly any other: at most one for each writer that was killed before it was answered.
    async fn check_rows(&self, store: &Embedded) -> Outcome {
        let mut found = BTreeSet::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = store.scan(TABLE, b"", after.as_deref(), 1000).await?;
            let Some(last) = rows.last() else {
                break;
            };
            after = Some(last.key.clone());
            for row in rows {
                if row.key != row.value {
                    return Err(format!("{row:?} is not as it was written").into());
                }
                found.insert(String::from_utf8(row.key)?);
            }
        }
        if let Some(lost) = self.rows.difference(&found).next() {
            return Err(format!("row {lost} was answered and is lost").into());
        }
        let ghosts = (found.len() - self.rows.len()) as u64;
        if ghosts > self.rounds * WRITERS {
            return Err(format!("{ghosts} rows were never answered").into());
        }
        Ok(())
    }

    /// Every answered count is in the history at its revision, the history has no gap, and no counter went back.
    async fn check_counters(&self, store: &Embedded) -> Outcome {
        let page = store
            .list(&ListRequest::new(Kind::HostClaim, Scope::cluster()))
            .await?;
        for counter in &page.objects {
            let name = &counter.metadata.name;
            let ours = self
                .counts
                .range((name.clone(), 0)..=(name.clone(), u64::MAX));
            let highest = ours.map(|((_, count), _)| *count).max().unwrap_or_default();
            if id_of(counter) < highest {
                return Err(
                    format!("{name} went back to {} from {highest}", id_of(counter)).into(),
                );
            }
        }
        let last = page.revision.counter();
        let from = last.saturating_sub(5000);
        let events = store
            .watch(Kind::HostClaim, Revision::from_counter(from))
            .await?;
        let events = events
            .take(usize::try_from(last - from)?)
            .collect::<Vec<_>>();
        let events = tokio::time::timeout(Duration::from_secs(20), events).await?;
        let mut history = BTreeMap::new();
        for (event, expected) in events.iter().zip(from + 1..) {
            let Event::Applied(object) = event else {
                return Err(format!("unexpected {event:?} in the history").into());
            };
            if object.metadata.revision.counter() != expected {
                return Err(format!("a gap in the history before {object:?}").into());
            }
            history.insert(expected, (object.metadata.name.clone(), id_of(object)));
        }
        for (count, revision) in self.counts.iter().filter(|(_, revision)| **revision > from) {
            if history.get(revision) != Some(count) {
                return Err(format!(
                    "{count:?} was answered with revision {revision}, where there is {:?}",
                    history.get(revision)
                )
                .into());
            }
        }
        Ok(())
    }
}

/// The process that is killed: writes, and prints what it is answered.
pub(crate) fn write(directory: &Path) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let store = Arc::new(open(directory)?);
    let writers = (0..WRITERS).map(|writer| {
        let task = runtime.spawn(write_on(store.clone(), writer));
        async move { task.await? }
    });
    let writing = try_join_all(writers);
    match runtime.block_on(async { tokio::time::timeout(LIFETIME, writing).await }) {
        Ok(ended) => ended.map(|_| ()),
        Err(_) => Ok(()),
    }
}

async fn write_on(store: Arc<Embedded>, writer: u64) -> Outcome {
    let name = format!("counter-{}", writer % COUNTERS);
    let key = object(&name, 0).key();
    for n in 0_u64.. {
        let row = format!("{}-{writer}-{n}", std::process::id());
        store
            .commit(Batch::new().put(TABLE, row.as_bytes(), row.as_bytes()))
            .await?;
        print(&format!("row {row}"))?;
        let old = Store::get(&*store, &key).await?;
        let count = old.as_ref().map_or(0, id_of) + 1;
        let (new, precondition) = match old {
            None => (object(&name, count), Precondition::Absent),
            Some(old) => {
                let unchanged = Precondition::Revision(old.metadata.revision);
                let spec = object(&name, count).spec;
                (Object { spec, ..old }, unchanged)
            }
        };
        match store.put(new, precondition).await {
            Ok(written) => print(&format!(
                "count {name} {count} {}",
                written.metadata.revision
            ))?,
            Err(error)
                if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Prints a line as one write, so that it is not torn by others.
fn print(line: &str) -> Outcome {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("{line}\n").as_bytes())?;
    Ok(output.flush()?)
}

fn open(directory: &Path) -> Outcome<Embedded> {
    let clock = Arc::new(memory::Clock::new());
    Ok(Embedded::open(
        Config::new(directory),
        clock,
        Arc::new(OfProcess::default()),
    )?)
}

/// Identifiers that no other process makes.
#[derive(Debug, Default)]
struct OfProcess(AtomicU64);

impl Ids for OfProcess {
    fn unique(&self) -> String {
        format!(
            "{}-{}",
            std::process::id(),
            self.0.fetch_add(1, Ordering::Relaxed)
        )
    }
}
