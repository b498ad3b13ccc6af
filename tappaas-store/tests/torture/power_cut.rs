use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, future::join_all};
use tappaas_core::{
    Batch, Clock, Durable, Error, ErrorKind, Event, Kind, ListRequest, Object, Precondition,
    Revision, Scope, Store, Timestamp, memory,
};
use tappaas_store::{Embedded, Limits};
use tokio::task::unconstrained;

use crate::{
    Outcome,
    disk::{Disk, Fault},
    model::{Model, id_of, object},
    random::Random,
};

/// How often the power comes back, for each seed.
const LIVES: u64 = 4;

/// How many groups of writes a life has if nothing ends it before.
const GROUPS: u64 = 12;

const FAULTS: [Fault; 8] = [
    Fault::Cut,
    Fault::Cut,
    Fault::Cut,
    Fault::Sync,
    Fault::Write,
    Fault::Short,
    Fault::Full,
    Fault::Read,
];

/// Runs seeds, from `first` on. The error names the first seed that fails.
pub(crate) fn soak(first: u64, seeds: u64) -> Outcome {
    let next = AtomicU64::new(first);
    let total: Mutex<Result<Tally, (u64, String)>> = Mutex::new(Ok(Tally::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds || total.lock().unwrap().is_err() {
                return;
            }
            let outcome = run(seed);
            let mut total = total.lock().unwrap();
            match (&mut *total, outcome) {
                (Ok(total), Ok(tally)) => total.add(tally),
                (Err((failed, _)), Err(_)) if *failed < seed => {}
                (_, Err(error)) => *total = Err((seed, error.to_string())),
                (Err(_), Ok(_)) => {}
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    match total.into_inner().unwrap() {
        Ok(tally) => {
            println!("{seeds} seeds: {tally:?}");
            Ok(())
        }
        Err((seed, error)) => Err(format!(
            "seed {seed} failed: {error}\nrepeat it with `-- power-cut 1 {seed}`"
        )
        .into()),
    }
}

fn run(seed: u64) -> Outcome<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let mut random = Random::new(seed);
    let world = World {
        disk: Disk::new(Random::new(random.next())),
        clock: Arc::new(Forward::default()),
        ids: Arc::new(memory::Ids::new()),
        random,
        model: Model::default(),
        tally: Tally::default(),
        failed: false,
    };
    runtime.block_on(world.run())
}

/// What happened, so that a run that tests nothing is seen.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    answered: u64,
    refused: u64,
    in_doubt: u64,
    cuts: u64,
    reopened: u64,
    damage_found: u64,
    damage_harmless: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.in_doubt += other.in_doubt;
        self.cuts += other.cuts;
        self.reopened += other.reopened;
        self.damage_found += other.damage_found;
        self.damage_harmless += other.damage_harmless;
    }
}

struct World {
    disk: Disk,
    clock: Arc<Forward>,
    ids: Arc<memory::Ids>,
    random: Random,
    model: Model,
    tally: Tally,
    /// A write failed, so the store has stopped.
    failed: bool,
}

type Write<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// What came of a write.
enum Answer {
    Object(String, Option<u64>, Result<Option<Box<Object>>, Error>),
    Row(String, Option<u64>, Result<(), Error>),
}

impl World {
    async fn run(mut self) -> Outcome<Tally> {
        // Creation is made whole by giving the file its name last, which is not the business of a storage.
        self.disk.power_on(None);
        drop(self.open()?);
        for _ in 0..LIVES {
            let fault = FAULTS[self.random.index(FAULTS.len())];
            let most = if fault == Fault::Sync { 60 } else { 400 };
            let at = self.random.below(most);
            self.disk.power_on(Some((fault, at)));
            self.live()
                .await
                .map_err(|error| format!("with {fault:?} at {at}: {error:?}"))?;
            self.tally.cuts += u64::from(self.disk.dead());
            self.disk.power_off();
        }
        self.disk.power_on(None);
        let store = self.open()?;
        self.check(&store).await?;
        self.group(&store).await?;
        if self.random.one_in(2) {
            self.disk.power_off();
        }
        drop(store);
        self.damage().await?;
        Ok(self.tally)
    }

    /// One time between two power cuts.
    async fn live(&mut self) -> Outcome {
        // The fault may hit while the store is being opened. It is only one, though a full disk needs some attempts to have room again.
        let mut opened = self.open();
        for _ in 0..8 {
            if opened.is_err() && !self.disk.dead() {
                opened = self.open();
            }
        }
        let store = match opened {
            Err(_) if self.disk.dead() => return Ok(()),
            opened => opened?,
        };
        self.check(&store).await?;
        for _ in 0..1 + self.random.below(GROUPS) {
            self.group(&store).await?;
            if !self.disk.dead() && self.failed {
                self.check(&store).await?;
                self.failed = false;
            }
            if self.disk.dead() {
                return Ok(());
            }
        }
        if self.random.one_in(2) {
            self.disk.power_off();
        }
        Ok(())
    }

    fn open(&self) -> Result<Embedded, Error> {
        let disk = self.disk.clone();
        let limits = Limits {
            // Small, so that pages are evicted while a transaction goes on.
            cache_bytes: 64 << 10,
            ..Limits::default()
        };
        Embedded::with_backend(
            move || disk.open(),
            limits,
            self.clock.clone(),
            self.ids.clone(),
        )
    }

    /// Writes that are committed together: while one write waits at the gate before its sync, the others queue up in order.
    async fn group(&mut self, store: &Embedded) -> Outcome {
        self.disk.close_gate();
        // Polled in a loop that gives nothing back to the runtime, whose budget would soon be used up: a write then never begins.
        let mut first = Box::pin(unconstrained(self.write(store, 0)));
        let mut answer = first.as_mut().now_or_never();
        while answer.is_none() && !self.disk.sync_waits() {
            answer = first.as_mut().now_or_never();
        }
        let others: Vec<_> = (0..self.random.below(12))
            .map(|place| Box::pin(unconstrained(self.write(store, 1 + place))))
            .collect();
        if let Some(answer) = answer {
            // It failed before its sync. Nothing holds the committer, so only one at a time keeps to an order that a seed repeats.
            self.disk.open_gate();
            self.note(answer)?;
            for write in others {
                let answer = write.await;
                self.note(answer)?;
            }
            return Ok(());
        }
        let mut waiting = vec![first];
        for mut write in others {
            match write.as_mut().now_or_never() {
                Some(answer) => self.note(answer)?,
                None => waiting.push(write),
            }
        }
        self.disk.open_gate();
        let answers = join_all(waiting).await;
        answers.into_iter().try_for_each(|answer| self.note(answer))
    }

    /// A random write. No two writes of a group are about the same name, so that what may be there stays easy to say.
    fn write<'a>(&mut self, store: &'a Embedded, place: u64) -> Write<'a> {
        let id = self.model.id();
        let name = format!("n-{place}");
        if self.random.one_in(3) {
            let old = self.model.row(&name).sure;
            let new = (!self.random.one_in(4)).then_some(id);
            let batch = batch(&name, old, new);
            return Box::pin(async move { Answer::Row(name, new, store.commit(batch).await) });
        }
        let new = object(&name, id);
        let Some(old) = self.model.object(&name).sure.clone() else {
            return Box::pin(async move {
                let answer = store.put(new, Precondition::Absent).await;
                Answer::Object(name, Some(id), answer.map(|object| Some(Box::new(object))))
            });
        };
        let unchanged = Precondition::Revision(old.metadata.revision);
        if self.random.one_in(4) {
            return Box::pin(async move {
                let answer = store.delete(&old.key(), unchanged).await;
                Answer::Object(name, None, answer.map(|object| object.map(Box::new)))
            });
        }
        let new = Object {
            spec: new.spec,
            ..old
        };
        Box::pin(async move {
            let answer = store.put(new, unchanged).await;
            Answer::Object(name, Some(id), answer.map(|object| Some(Box::new(object))))
        })
    }

    fn note(&mut self, answer: Answer) -> Outcome {
        match answer {
            Answer::Object(name, id, Ok(object)) => {
                let written = object.ok_or("a write was answered with nothing")?;
                let revision = written.metadata.revision;
                if self.model.answered.insert(revision, id).is_some() {
                    return Err(format!("revision {revision} was given out twice").into());
                }
                self.model.object(&name).sure = id.map(|_| *written);
                self.tally.answered += 1;
            }
            Answer::Row(name, id, Ok(())) => {
                self.model.row(&name).sure = id;
                self.tally.answered += 1;
            }
            Answer::Object(name, id, Err(error)) => {
                if self.in_doubt(&error)? {
                    self.model.object(&name).unsure.push(id);
                }
            }
            Answer::Row(name, id, Err(error)) => {
                if self.in_doubt(&error)? {
                    self.model.row(&name).unsure.push(id);
                }
            }
        }
        Ok(())
    }

    /// Says whether a write that failed may have happened all the same.
    fn in_doubt(&mut self, error: &Error) -> Outcome<bool> {
        if error.kind() != ErrorKind::Unavailable {
            return Err(format!("a write failed with {error:?}").into());
        }
        self.failed = true;
        let in_doubt = error.message().contains("may or may not");
        self.tally.refused += u64::from(!in_doubt);
        self.tally.in_doubt += u64::from(in_doubt);
        Ok(in_doubt)
    }

    /// Holds everything in the store against the model. A disk that dies meanwhile ends it.
    async fn check(&mut self, store: &Embedded) -> Outcome {
        // The store opens again by itself, each attempt may hit the next fault, and there is only one fault.
        for _ in 0..5 {
            match self.compare(store).await {
                Err(error) if is_unavailable(&*error) => {
                    if self.disk.dead() {
                        return Ok(());
                    }
                }
                other => return other,
            }
            self.tally.reopened += 1;
            // A write makes the store open again, and is answered when it has tried.
            let _ = store
                .commit(Batch::new().check("none", b"none", Some(b"none")))
                .await;
        }
        Err("the store does not open again".into())
    }

    async fn compare(&mut self, store: &Embedded) -> Outcome {
        let all = ListRequest::new(Kind::HostClaim, Scope::cluster());
        let page = store.list(&all).await?;
        if page.revision < self.model.revision() {
            return Err(format!(
                "the revision went back to {} from {}",
                page.revision,
                self.model.revision()
            )
            .into());
        }
        let history = history(store, page.revision).await?;
        let mut rows = Vec::new();
        for name in self.model.rows.keys() {
            let row = |table| Durable::get(store, table, name.as_bytes());
            let (a, b) = (row("a").await?, row("b").await?);
            if a != b {
                return Err(format!("half of a batch for row {name}: {a:?} and {b:?}").into());
            }
            let number = a.map(|bytes| bytes.try_into().map(u64::from_be_bytes));
            rows.push((
                name.clone(),
                number.transpose().map_err(|_| "a row is torn")?,
            ));
        }
        // Everything could be read: now nothing may be wrong any more.
        for (name, found) in rows {
            self.model.row(&name).settle(&name, found)?;
        }
        let names: Vec<_> = self.model.objects.keys().cloned().collect();
        for name in names {
            let found = page
                .objects
                .iter()
                .find(|object| object.metadata.name == name);
            self.model.object(&name).settle(&name, found.cloned())?;
        }
        self.compare_history(&history, &page.objects)
    }

    /// The history has every answered change, without a gap, and leads to what is there.
    fn compare_history(&mut self, history: &[Event], objects: &[Object]) -> Outcome {
        let mut replayed = std::collections::BTreeMap::new();
        let mut seen = std::collections::BTreeMap::new();
        for (event, expected) in history.iter().zip(1..) {
            let (object, id) = match event {
                Event::Applied(object) => (object, Some(id_of(object))),
                Event::Deleted(object) => (object, None),
                other => return Err(format!("unexpected {other:?} in the history").into()),
            };
            if object.metadata.revision != Revision::from_counter(expected) {
                return Err(format!("a gap in the history before {object:?}").into());
            }
            seen.insert(object.metadata.revision, id);
            match id {
                Some(_) => replayed.insert(object.key(), object.clone()),
                None => replayed.remove(&object.key()),
            };
        }
        for (revision, id) in &self.model.answered {
            if seen.get(revision) != Some(id) {
                return Err(format!(
                    "answered change {revision} to {id:?} is {:?} in the history",
                    seen.get(revision)
                )
                .into());
            }
        }
        self.model.answered = seen;
        if !replayed.values().eq(objects) {
            return Err("the history leads to something else than what is there".into());
        }
        Ok(())
    }

    /// Bits that changed on the disk are found when the store opens, or do no harm.
    async fn damage(&mut self) -> Outcome {
        let flipped = 1 + self.random.below(3);
        self.disk.flip_bits(flipped);
        self.disk.power_on(None);
        match self.open() {
            Ok(store) => {
                self.tally.damage_harmless += 1;
                let compared = self.compare(&store).await;
                compared
                    .map_err(|error| format!("{flipped} bits changed unnoticed: {error}").into())
            }
            Err(error) if matches!(error.kind(), ErrorKind::Internal | ErrorKind::Unsupported) => {
                self.tally.damage_found += 1;
                Ok(())
            }
            Err(error) => Err(format!("after {flipped} bits changed: {error:?}").into()),
        }
    }
}

/// Writes or removes a row in two tables at once.
fn batch(name: &str, old: Option<u64>, new: Option<u64>) -> Batch {
    let old = old.map(u64::to_be_bytes);
    let batch = Batch::new().check("a", name.as_bytes(), old.as_ref().map(|old| &old[..]));
    ["a", "b"]
        .into_iter()
        .fold(batch, |batch, table| match new {
            Some(new) => batch.put(table, name.as_bytes(), &new.to_be_bytes()),
            None => batch.delete(table, name.as_bytes()),
        })
}

/// All changes up to a revision.
async fn history(store: &Embedded, revision: Revision) -> Outcome<Vec<Event>> {
    let count = usize::try_from(revision.counter())?;
    let events = store
        .watch(Kind::HostClaim, Revision::default())
        .await?
        .take(count);
    let events = tokio::time::timeout(Duration::from_secs(20), events.collect::<Vec<_>>()).await?;
    if events.len() < count {
        return Err(Error::unavailable("the watch broke off").into());
    }
    Ok(events)
}

fn is_unavailable(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error
        .downcast_ref::<Error>()
        .is_some_and(|error| error.kind() == ErrorKind::Unavailable)
}

/// A clock that goes on by a minute whenever somebody looks at it.
#[derive(Debug, Default)]
struct Forward(AtomicI64);

#[async_trait]
impl Clock for Forward {
    fn now(&self) -> Timestamp {
        let minutes = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::new(minutes * 60, 0).unwrap_or(Timestamp::MAX)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
