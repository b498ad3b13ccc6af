use std::{
    fmt, io,
    num::NonZeroUsize,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use redb::StorageBackend;
use serde_json::Value;
use tappaas_core::{
    Batch, Clock, Durable, Error, Event, Ids, Key, Kind, ListRequest, Object, Page, Precondition,
    Result, Revision, Row, Store, durable::check_table,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    Config, Limits,
    committer::{Committer, Message, Request, Task},
    failure::Failure,
    layout::{decode_object, durable, object_key, objects},
    listing,
    lock::Lock,
    medium::{Medium, create_directory},
    rows::Snapshot,
    state::State,
    transaction::Write,
    watching,
};

/// How many writes may wait for the committer, and how many bytes of them; further writers wait for room.
const QUEUE_MAX: usize = 4096;
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// A store in one file, with tables of bytes beside its objects.
///
/// A write is decided in order of arrival by one thread, and answered after the sync of the transaction it is part of. A caller who no longer
/// waits has not taken his write back. After a failure of the disk the store stops: what waits is told that its fate is unknown, everything
/// else is `Unavailable`, until the file can be opened again, which is tried by itself.
pub struct Embedded {
    state: Arc<State>,
    ids: Arc<dyn Ids>,
    room: Arc<Semaphore>,
    /// One permit a core: more readers would wait for each other all the same, each on a thread that keeps memory of its own.
    readers: Arc<Semaphore>,
    thread: Mutex<Option<(mpsc::Sender<Message>, JoinHandle<()>)>>,
}

impl Embedded {
    /// Opens the store in a directory, or creates it. Checks the whole file; blocks until that is done.
    ///
    /// # Errors
    /// `Unavailable` if another process has it open or the disk fails, `Unsupported` if a newer version wrote it, which changes nothing in
    /// it, and `Internal`, naming what, if it is damaged.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a config is made for the store it is given to"
    )]
    pub fn open(config: Config, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Result<Self> {
        let directory = &config.directory;
        create_directory(directory).map_err(|error| {
            Error::unavailable(format!("cannot create `{}`", directory.display()))
                .with_source(error)
        })?;
        let lock = Lock::take(directory)?;
        let medium = Medium::directory(directory, config.limits.cache_bytes);
        Self::start(medium, config.limits, clock, ids, Some(lock))
    }

    /// Opens a store on any storage: an empty one, or one that has a whole store. A creation that is cut short leaves neither.
    ///
    /// `storage` is asked again after a failure.
    ///
    /// # Errors
    /// As those of [`Embedded::open`].
    pub fn with_backend<B: StorageBackend>(
        storage: impl Fn() -> io::Result<B> + Send + Sync + 'static,
        limits: Limits,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self> {
        let medium = Medium::backend(storage, limits.cache_bytes);
        Self::start(medium, limits, clock, ids, None)
    }

    fn start(
        medium: Medium,
        limits: Limits,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        lock: Option<Lock>,
    ) -> Result<Self> {
        let (database, revision) = medium.open().map_err(|failure| {
            failure.into_error(format!("cannot open the store in `{}`", medium.name()))
        })?;
        let state = Arc::new(State::new(database));
        let committer = Committer {
            state: state.clone(),
            medium,
            limits,
            clock,
            ids: ids.clone(),
            revision,
            stopped: None,
            _lock: lock,
        };
        let (sender, messages) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("store".to_owned());
        let thread = thread
            .spawn(move || committer.run(messages))
            .map_err(|error| {
                Error::unavailable("cannot start the thread that writes").with_source(error)
            })?;
        Ok(Self {
            state,
            ids,
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            readers: Arc::new(Semaphore::new(
                std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            )),
            thread: Mutex::new(Some((sender, thread))),
        })
    }

    /// Forgets old changes until `keep` of each kind are left, a few at a time between the writes that come meanwhile. Watches from before
    /// them expire.
    ///
    /// # Errors
    /// `Unavailable` if the disk fails.
    pub async fn compact(&self, keep: u64) -> Result<()> {
        loop {
            let (reply, more) = oneshot::channel();
            self.send(Message::Maintain(Task::Forget(keep, reply)))
                .await?;
            if !more.await.map_err(|_| closed())?? {
                return Ok(());
            }
        }
    }

    /// Makes the file as small as it can be, and says whether it could be made smaller. Everything else waits meanwhile.
    ///
    /// # Errors
    /// `Unavailable` if the disk fails.
    pub async fn shrink(&self) -> Result<bool> {
        let (reply, done) = oneshot::channel();
        self.send(Message::Maintain(Task::Shrink(reply))).await?;
        done.await.map_err(|_| closed())?
    }

    /// Writes what is waiting and closes the file. Blocks until that is done; afterwards everything is `Unavailable`.
    pub fn close(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((sender, thread)) = thread {
            drop(sender);
            // It contains its own panics; one that escaped it was printed, and there is nobody to tell.
            let _ = thread.join();
        }
    }

    async fn write(&self, write: Write, bytes: usize) -> Result<Option<Object>> {
        let share = u32::try_from(bytes.clamp(1, QUEUE_BYTES_MAX)).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(share).await;
        let room = room.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let request = Request { write, reply, room };
        self.send(Message::Write(Box::new(request))).await?;
        answer.await.map_err(|_| closed())?
    }

    async fn write_object(
        &self,
        object: Object,
        write: impl FnOnce(Object) -> Write,
    ) -> Result<Object> {
        let key = object.key();
        let bytes = object.check()?;
        let written = self.write(write(object), bytes).await?;
        written.ok_or_else(|| Error::internal(format!("{key} was written and is not there")))
    }

    async fn send(&self, message: Message) -> Result<()> {
        let sender = {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.as_ref().map(|(sender, _)| sender.clone())
        };
        let sender = sender.ok_or_else(closed)?;
        sender.send(message).await.map_err(|_| closed())
    }

    /// Reads on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(Snapshot) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let permit = self.readers.clone().acquire_owned().await;
        let permit = permit.map_err(|_| closed())?;
        let state = self.state.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            state.read(work)
        });
        let read = read.await;
        self.read_result(doing, read.unwrap_or(Err(Failure::Closed)))
    }

    /// Reads right here: one lookup, mostly in memory. Goes to a thread that may block if the database is busy with its own affairs.
    async fn look_up<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(Snapshot) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        match self.state.try_read(work) {
            Ok(result) => self.read_result(doing, result),
            Err(work) => self.read(doing, work).await,
        }
    }

    fn read_result<T>(&self, doing: &str, result: Result<T, Failure>) -> Result<T> {
        if let Err(Failure::Stopped(_)) = &result {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((sender, _)) = &*thread {
                // If the queue is full, the writes in it open the file again.
                let _ = sender.try_send(Message::Maintain(Task::Revive));
            }
        }
        result.map_err(|failure| failure.into_error(doing))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        key.check()?;
        let (table, row) = (objects(key.kind), object_key(key));
        self.look_up("cannot read an object", move |snapshot| {
            let json = snapshot.get(&table, &row)?;
            json.map(|json| decode_object(&table, &row, &json))
                .transpose()
        })
        .await
    }

    async fn list(&self, request: &ListRequest) -> Result<Page> {
        if request.limit == 0 {
            return Err(Error::invalid("a listing needs a limit of at least 1"));
        }
        let (state, request, id) = (self.state.clone(), request.clone(), self.ids.unique());
        self.read("cannot list objects", move |snapshot| {
            listing::next_page(&state.listings, snapshot, &request, id)
        })
        .await?
    }

    async fn put(&self, mut object: Object, precondition: Precondition) -> Result<Object> {
        // What a put does not write need not wait with it.
        object.status = Value::Null;
        self.write_object(object, |object| Write::Put(object, precondition))
            .await
    }

    async fn put_status(&self, mut object: Object, precondition: Precondition) -> Result<Object> {
        object.spec = Value::Null;
        self.write_object(object, |object| Write::PutStatus(object, precondition))
            .await
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Option<Object>> {
        key.check()?;
        self.write(Write::Delete(key.clone(), precondition), 1)
            .await
    }

    async fn watch(&self, kind: Kind, from: Revision) -> Result<BoxStream<'static, Event>> {
        Ok(watching::watch(self.state.clone(), kind, from))
    }
}

#[async_trait]
impl Durable for Embedded {
    async fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        check_table(table)?;
        let (table, key) = (durable(table), key.to_vec());
        self.look_up("cannot read a row", move |snapshot| {
            snapshot.get(&table, &key)
        })
        .await
    }

    async fn scan(
        &self,
        table: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        check_table(table)?;
        let (table, prefix) = (durable(table), prefix.to_vec());
        let after = after.filter(|&after| after >= &*prefix).map(<[u8]>::to_vec);
        self.read("cannot scan a table", move |snapshot| {
            let from = after
                .as_deref()
                .map_or(Bound::Included(&*prefix), Bound::Excluded);
            let mut rows = Vec::new();
            snapshot.scan(&table, from, |key, value| {
                if rows.len() == limit || !key.starts_with(&prefix) {
                    return Ok(false);
                }
                let (key, value) = (key.to_vec(), value.to_vec());
                rows.push(Row { key, value });
                Ok(true)
            })?;
            Ok(rows)
        })
        .await
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        let bytes = batch.size();
        if bytes > Batch::SIZE_MAX {
            // The committer refuses it too; this saves it from having to wait for so much room.
            tappaas_core::durable::decide_commit(&batch, |_, _| Ok::<_, Error>(None))?;
        }
        self.write(Write::Commit(batch), bytes).await.map(|_| ())
    }
}

fn closed() -> Error {
    Error::unavailable("the store is closed")
}
