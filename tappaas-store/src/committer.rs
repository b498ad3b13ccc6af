use std::sync::Arc;

use redb::WriteTransaction;
use tappaas_core::{Chain, Clock, Error, Ids, Object, Result, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::{
    Limits,
    failure::{Failure, contained},
    lock::Lock,
    medium::Medium,
    rows::Draft,
    state::{Home, State},
    transaction::{Halt, Transaction, Write},
};

/// How many writes one transaction may have.
const GROUP_MAX: usize = 1024;

/// How many changes are forgotten at once by [`Message::Forget`], so that writes that come meanwhile do not wait long.
const FORGET_MAX: u64 = 256;

/// How long a stopped store waits before it tries to open its file again, in seconds.
const REOPEN_SECONDS: i64 = 1;

/// What the committer is asked to do.
pub(crate) enum Message {
    Write(Box<Request>),
    Maintain(Task),
}

/// A write, who waits for it, and its share of the memory for waiting writes.
pub(crate) struct Request {
    pub(crate) write: Write,
    pub(crate) reply: oneshot::Sender<Result<Option<Object>>>,
    pub(crate) room: OwnedSemaphorePermit,
}

/// What is done between two groups of writes.
pub(crate) enum Task {
    /// Forget changes until so many of each kind are left. The answer says whether there are more to forget.
    Forget(u64, oneshot::Sender<Result<bool>>),
    /// Make the file as small as it can be. The answer says whether it could be made smaller.
    Shrink(oneshot::Sender<Result<bool>>),
    /// Open the file again if the store has stopped.
    Revive,
}

/// The one that writes.
pub(crate) struct Committer {
    pub(crate) state: Arc<State>,
    pub(crate) medium: Medium,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    /// The last revision given out.
    pub(crate) revision: u64,
    /// When and why the store stopped, or could last not be opened again.
    pub(crate) stopped: Option<(Timestamp, Arc<Failure>)>,
    /// Keeps other processes away until the database is closed.
    pub(crate) _lock: Option<Lock>,
}

/// Why a transaction is not there.
struct Stop {
    failure: Failure,
    /// It failed while it was being committed, and may be there after all.
    in_doubt: bool,
}

impl Committer {
    /// Works until there is nobody left to ask for anything, then closes the database.
    pub(crate) fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut requests = Vec::new();
        while let Some(message) = messages.blocking_recv() {
            let mut next = Some(message);
            while let Some(message) = next.take() {
                match message {
                    Message::Write(request) => requests.push(*request),
                    Message::Maintain(task) => {
                        self.commit(&mut requests);
                        self.maintain(task);
                    }
                }
                if requests.len() < GROUP_MAX {
                    next = messages.try_recv().ok();
                }
            }
            self.commit(&mut requests);
        }
        self.state.leave(Home::Closed);
    }

    fn maintain(&mut self, task: Task) {
        match task {
            // Somebody who no longer waits for an answer needs none.
            Task::Forget(keep, reply) => drop(reply.send(self.forget(keep))),
            Task::Shrink(reply) => drop(reply.send(self.shrink())),
            Task::Revive => drop(self.revive()),
        }
    }

    /// Decides and writes all requests in one transaction, and answers them once it is durable.
    fn commit(&mut self, requests: &mut Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        let mut waiting = Vec::with_capacity(requests.len());
        let mut writes = Vec::with_capacity(requests.len());
        for request in requests.drain(..) {
            writes.push(request.write);
            waiting.push((request.reply, request.room));
        }
        match self.transact(|transaction| transaction.apply_all(writes)) {
            Ok(answers) => {
                for ((reply, _), answer) in waiting.into_iter().zip(answers) {
                    drop(reply.send(answer));
                }
            }
            Err(stop) => {
                let doing = match stop.in_doubt {
                    true => "the write may or may not have happened: read before trying again",
                    false => "the write did not happen",
                };
                for (reply, _) in waiting {
                    drop(reply.send(Err(stop.failure.clone().into_error(doing))));
                }
            }
        }
    }

    fn forget(&mut self, keep: u64) -> Result<bool> {
        let forgotten = self.transact(|transaction| transaction.forget(keep, FORGET_MAX));
        forgotten.map_err(|stop| stop.failure.into_error("cannot forget old changes"))
    }

    fn shrink(&mut self) -> Result<bool> {
        let doing = "cannot make the file smaller";
        self.revive().map_err(|failure| failure.into_error(doing))?;
        let result = match &mut *self.state.home_alone() {
            Home::Open(database) => contained(|| Ok(database.compact()?)),
            Home::Stopped(failure) => Err(Failure::Stopped(failure.clone())),
            Home::Closed => Err(Failure::Closed),
        };
        result.map_err(|failure| self.stop(failure).into_error(doing))
    }

    /// Runs one transaction, and tells readers and watchers of it. Stops the store if it fails.
    fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Transaction<'_, '_>) -> Result<T, Failure>,
    ) -> Result<T, Stop> {
        let mut in_doubt = false;
        let revived = self.revive();
        revived.map_err(|failure| Stop { failure, in_doubt })?;
        let done = contained(|| {
            let transaction = self.begin()?;
            let draft = Draft::of(&transaction);
            let mut decisions = Transaction::new(draft, self.revision, &*self.clock, &*self.ids);
            let answer = work(&mut decisions)?;
            let finished = decisions.finish(&self.limits)?;
            if finished.rows == 0 {
                transaction.abort()?;
            } else {
                in_doubt = true;
                transaction.commit()?;
            }
            Ok((answer, finished))
        });
        match done {
            Ok((answer, finished)) => {
                self.revision = finished.revision;
                self.state.listings().age(finished.rows);
                self.state.announce(finished.kinds);
                Ok(answer)
            }
            // The database is as it should be, only something in it is not.
            Err(failure @ Failure::Damaged(_)) => Err(Stop { failure, in_doubt }),
            Err(failure) => {
                let failure = self.stop(failure);
                Err(Stop { failure, in_doubt })
            }
        }
    }

    fn begin(&self) -> Result<WriteTransaction, Failure> {
        let mut transaction = match &*self.state.home() {
            Home::Open(database) => database.begin_write()?,
            Home::Stopped(failure) => return Err(Failure::Stopped(failure.clone())),
            Home::Closed => return Err(Failure::Closed),
        };
        // Two syncs a commit: with one, a commit is told from a torn one by a checksum alone, and opening after a crash walks the whole
        // database first.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// Closes the database after a failure: what it has in memory is not to be trusted.
    fn stop(&mut self, failure: Failure) -> Failure {
        tracing::error!(file = self.medium.name(), error = %Chain(&failure), "the store has stopped");
        self.state.leave(Home::Stopped(Arc::new(failure.clone())));
        self.stopped = Some((self.clock.now(), Arc::new(failure.clone())));
        failure
    }

    /// Opens the database again if the store has stopped and some time has passed.
    fn revive(&mut self) -> Result<(), Failure> {
        let Some((stopped, failure)) = &self.stopped else {
            return Ok(());
        };
        let now = self.clock.now();
        if (0..REOPEN_SECONDS).contains(&(now.as_second() - stopped.as_second())) {
            return Err(Failure::Stopped(failure.clone()));
        }
        match self.medium.open() {
            Ok((database, revision)) => {
                tracing::info!(file = self.medium.name(), "the store is open again");
                self.revision = revision;
                self.stopped = None;
                self.state.leave(Home::Open(database));
                Ok(())
            }
            Err(failure) => {
                let failure = Arc::new(failure);
                self.state.leave(Home::Stopped(failure.clone()));
                self.stopped = Some((now, failure.clone()));
                Err(Failure::Stopped(failure))
            }
        }
    }
}

/// The answer to each write of a transaction.
pub(crate) type Answers = Vec<Result<Option<Object>, Error>>;

impl Transaction<'_, '_> {
    fn apply_all(&mut self, writes: Vec<Write>) -> Result<Answers, Failure> {
        let mut answers = Vec::with_capacity(writes.len());
        for write in writes {
            answers.push(match self.apply(write) {
                Ok(object) => Ok(object),
                Err(Halt::Refused(error)) => Err(error),
                Err(Halt::Failed(failure)) => return Err(failure),
            });
        }
        Ok(answers)
    }
}
