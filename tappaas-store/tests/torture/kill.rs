use std::{
    collections::BTreeSet,
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
    history::{Answer, Ask, Condition, State, Truth, Version},
    model::{id_of, object},
    random::Random,
    script,
};

const CLIENTS: u64 = 64;
/// Few enough that clients meet.
const THINGS: u64 = 8;
const TABLE: &str = "answered";

/// How long a writer lives if nobody kills it.
const LIFETIME: Duration = Duration::from_secs(60);

/// After how many lines at most a writer is killed. The store keeps more changes than are made until then.
const LINES_MAX: u64 = 6000;

/// Lets a process write, kills it, and looks whether all that it was answered is there: so many times on one directory.
pub(crate) fn soak(first: u64, rounds: u64) -> Outcome {
    let directory = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut answered = Answered::default();
    for round in first..first + rounds {
        let after = 1 + Random::new(round).below(LINES_MAX);
        let lines = write_and_be_killed(directory.path(), after)?;
        let checked = runtime.block_on(answered.check(directory.path(), &lines));
        checked.map_err(|error| format!("round {round}: {error:?}"))?;
    }
    println!(
        "{rounds} rounds: {} rows are there, and {} changes, requests and answers explain each other",
        answered.rows.len(),
        answered.requests
    );
    Ok(())
}

/// Starts this program again as the writer, kills it after so many lines, and returns all of them.
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
        return Err(format!("the writer ended by itself after {} lines", lines.len()).into());
    }
    // The last line may be cut off.
    lines.pop();
    Ok(lines)
}

/// What was asked and answered, over all rounds, and what there was after each.
#[derive(Debug, Default)]
struct Answered {
    rows: BTreeSet<String>,
    state: State,
    revision: u64,
    requests: usize,
    rounds: u64,
}

impl Answered {
    /// Opens the store again: everything answered is there, and what happened explains every answer.
    async fn check(&mut self, directory: &Path, lines: &[String]) -> Outcome {
        self.rounds += 1;
        let mut history = Vec::new();
        for line in lines {
            match line.strip_prefix("row ") {
                Some(row) => _ = self.rows.insert(row.to_owned()),
                None => history.push(script::read(line)?),
            }
        }
        let store = open(directory)?;
        self.check_rows(&store).await?;
        let page = store
            .list(&ListRequest::new(Kind::HostClaim, Scope::cluster()))
            .await?;
        let last = page.revision.counter();
        let changes = changes(&store, self.revision, last).await?;
        let truth = Truth::new(self.revision, &self.state, changes)?;
        truth.explains(&history)?;
        (self.state, self.revision) = (state_of(&page.objects), last);
        if truth.end() != self.state {
            return Err(format!("{:?} is listed after {truth:?}", self.state).into());
        }
        self.requests += history.len();
        Ok(())
    }

    /// Every answered row is there, and hardly any other: at most one for each client that was killed before it was answered.
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
        if ghosts > self.rounds * CLIENTS {
            return Err(format!("{ghosts} rows were never answered").into());
        }
        Ok(())
    }
}

/// Everything that happened after one revision and up to another.
async fn changes(store: &Embedded, from: u64, last: u64) -> Outcome<Vec<(String, Version)>> {
    let mut events = store
        .watch(Kind::HostClaim, Revision::from_counter(from))
        .await?;
    let mut changes = Vec::new();
    while (changes.len() as u64) < last - from {
        let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await?;
        changes.extend(change_of(&event.ok_or("the history broke off")?)?);
    }
    Ok(changes)
}

fn change_of(event: &Event) -> Outcome<Option<(String, Version)>> {
    let version = |object: &Object, id| {
        let revision = object.metadata.revision.counter();
        Ok(Some((object.metadata.name.clone(), (revision, id))))
    };
    match event {
        Event::Applied(object) => version(object, Some(id_of(object))),
        Event::Deleted(object) => version(object, None),
        Event::Bookmark(_) => Ok(None),
        Event::Expired => Err("the history is not kept".into()),
    }
}

fn state_of(objects: &[Object]) -> State {
    let version = |object: &Object| (object.metadata.revision.counter(), id_of(object));
    let each = objects
        .iter()
        .map(|object| (object.metadata.name.clone(), version(object)));
    each.collect()
}

/// The process that is killed: asks, and prints what it asks and what it is answered.
pub(crate) fn write(directory: &Path) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let store = Arc::new(open(directory)?);
    let numbers = Arc::<AtomicU64>::default();
    let request = ListRequest::new(Kind::HostClaim, Scope::cluster());
    let from = runtime.block_on(store.list(&request))?.revision;
    let watcher = runtime.spawn(see(store.clone(), from));
    let clients =
        (0..CLIENTS).map(|client| runtime.spawn(ask_on(store.clone(), client, numbers.clone())));
    let tasks = clients.chain([watcher]).collect::<Vec<_>>();
    let writing = try_join_all(tasks.into_iter().map(|task| async move { task.await? }));
    match runtime.block_on(async { tokio::time::timeout(LIFETIME, writing).await }) {
        Ok(ended) => ended.map(|_| ()),
        Err(_) => Ok(()),
    }
}

/// Writes a row and asks something of a thing that others change as well, in turn.
async fn ask_on(store: Arc<Embedded>, client: u64, numbers: Arc<AtomicU64>) -> Outcome {
    let mut random = Random::new(client ^ u64::from(std::process::id()) << 16);
    let mut known = None;
    for n in 0_u64.. {
        let row = format!("{}-{client}-{n}", std::process::id());
        store
            .commit(Batch::new().put(TABLE, row.as_bytes(), row.as_bytes()))
            .await?;
        print(&format!("row {row}"))?;
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        // No other process has written this id.
        let id = u64::from(std::process::id()) << 32 | number;
        let ask = choose(&mut random, known.as_ref(), id);
        print(&script::asked(number, &ask))?;
        let answer = answer(&store, &ask).await?;
        print(&script::answered(number, &answer))?;
        if let (Ask::Get(key), Answer::Found(revision, _)) = (ask, answer) {
            known = Some((key, revision));
        }
    }
    Ok(())
}

fn choose(random: &mut Random, known: Option<&(String, u64)>, id: u64) -> Ask {
    let key = format!("thing-{}", random.below(THINGS));
    match (random.below(10), known) {
        (0, _) => Ask::List,
        (1, _) => Ask::Put(key, id, Condition::Absent),
        (2, _) => Ask::Put(key, id, Condition::Present),
        (3, _) => Ask::Delete(key, Condition::Present),
        (4, Some((key, revision))) => Ask::Delete(key.clone(), Condition::Revision(*revision)),
        (5..8, Some((key, revision))) => Ask::Put(key.clone(), id, Condition::Revision(*revision)),
        _ => Ask::Get(key),
    }
}

async fn answer(store: &Embedded, ask: &Ask) -> Outcome<Answer> {
    let precondition = |condition| match condition {
        Condition::Absent => Precondition::Absent,
        Condition::Present => Precondition::Present,
        Condition::Revision(revision) => Precondition::Revision(Revision::from_counter(revision)),
    };
    let answered = match ask {
        Ask::Get(key) => Store::get(store, &object(key, 0).key()).await.map(|found| {
            found.map_or(Answer::Nothing, |found| {
                Answer::Found(found.metadata.revision.counter(), id_of(&found))
            })
        }),
        Ask::List => {
            let request = ListRequest::new(Kind::HostClaim, Scope::cluster());
            let listed = store.list(&request).await;
            listed.map(|page| Answer::Listed(page.revision.counter(), state_of(&page.objects)))
        }
        Ask::Put(key, id, condition) => {
            let written = store.put(object(key, *id), precondition(*condition)).await;
            written.map(|written| Answer::Written(written.metadata.revision.counter()))
        }
        Ask::Delete(key, condition) => {
            let key = object(key, 0).key();
            let removed = Store::delete(store, &key, precondition(*condition)).await;
            removed.map(|removed| {
                removed.map_or(Answer::Nothing, |removed| {
                    Answer::Written(removed.metadata.revision.counter())
                })
            })
        }
    };
    match answered {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Conflict | ErrorKind::AlreadyExists | ErrorKind::NotFound
            ) =>
        {
            Ok(Answer::Refused)
        }
        answered => Ok(answered?),
    }
}

/// Prints every change, as a watcher sees it.
async fn see(store: Arc<Embedded>, from: Revision) -> Outcome {
    let mut events = store.watch(Kind::HostClaim, from).await?;
    while let Some(event) = events.next().await {
        if let Some((key, version)) = change_of(&event)? {
            print(&script::seen(&key, version))?;
        }
    }
    Err("a watch ended".into())
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
