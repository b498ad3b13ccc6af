use std::sync::Arc;

use redb::WriteTransaction;
use tappaas_core::{Clock, Error, Ids, Kind, Object, Result, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::{
    Limits,
    failure::{Failure, contained},
    history,
    lock::Lock,
    medium::Medium,
    rows::Draft,
    state::{Home, State},
    transaction::{Finished, Halt, Transaction, Write},
};

/// How many writes one transaction may have.
const GROUP_MAX: usize = 1024;

/// How many changes are forgotten at once by [`Message::Forget`], so that writes that come meanwhile do not wait long.
const FORGET_MAX: u64 = 256;

/// How long a stopped store waits before it tries to open its file again, in seconds.
const REOPEN_SECONDS: i64 = 1;

/// What the committer is asked to do.
#[expect(clippy::large_enum_variant, reason = "nearly all messages are writes")]
pub(crate) enum Message {
    Write(Request),
    /// Forget changes until so many of each kind are left. The answer says whether there are more to forget.
    Forget(u64, oneshot::Sender<Result<bool>>),
    /// Make the file as small as it can be. The answer says whether it could be made smaller.
    Shrink(oneshot::Sender<Result<bool>>),
    /// Open the file again if the store has stopped.
    Revive,
}

/// A write, who waits for it, and its share of the memory for waiting writes.
pub(crate) struct Request {
    pub(crate) write: Write,
    pub(crate) reply: oneshot::Sender<Result<Option<Object>>>,
    pub(crate) room: OwnedSemaphorePermit,
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
    /// When the store stopped, or could last not be opened again.
    pub(crate) stopped: Option<Timestamp>,
    /// Held until the database is closed.
    pub(crate) lock: Option<Lock>,
}

impl Committer {
    /// Works until there is nobody left to ask for anything, then closes the database.
    pub(crate) fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut requests = Vec::new();
        while let Some(message) = messages.blocking_recv() {
            let mut next = Some(message);
            while let Some(message) = next.take() {
                match message {
                    Message::Write(request) => requests.push(request),
                    other => {
                        self.commit(&mut requests);
                        self.maintain(other);
                    }
                }
                if requests.len() < GROUP_MAX {
                    next = messages.try_recv().ok();
                }
            }
            self.commit(&mut requests);
        }
        self.state.leave(Home::Closed);
        drop(self.lock.take());
    }

    fn maintain(&mut self, message: Message) {
        match message {
            Message::Write(_) => unreachable!("writes are committed in groups"),
            // Somebody who no longer waits for an answer needs none.
            Message::Forget(keep, reply) => drop(reply.send(self.forget(keep))),
            Message::Shrink(reply) => drop(reply.send(self.shrink())),
            Message::Revive => drop(self.revive()),
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
        let rows = writes.len() as u64;
        match self.transact(|transaction| transaction.apply_all(writes)) {
            Ok((answers, finished)) => {
                self.state.listings().age(rows);
                self.state.announce(finished.kinds);
                for ((reply, _), answer) in waiting.into_iter().zip(answers) {
                    drop(reply.send(answer));
                }
            }
            Err(failure) => {
                let doing = match failure {
                    Failure::Stopped(_) | Failure::Closed => "the write did not happen",
                    _ => "the write may or may not have happened: read before trying again",
                };
                for (reply, _) in waiting {
                    drop(reply.send(Err(failure.clone().into_error(doing))));
                }
            }
        }
    }

    fn forget(&mut self, keep: u64) -> Result<bool> {
        let forgotten = self.transact(|transaction| transaction.forget(keep, FORGET_MAX));
        match forgotten {
            Ok((more, _)) => Ok(more),
            Err(failure) => Err(failure.into_error("cannot forget old changes")),
        }
    }

    fn shrink(&mut self) -> Result<bool> {
        let doing = "cannot make the file smaller";
        self.revive().map_err(|failure| failure.into_error(doing))?;
        let result = {
            let mut home = self.state.home_alone();
            match &mut *home {
                Home::Open(database) => contained(|| Ok(database.compact()?)),
                Home::Stopped(_) | Home::Closed => Err(Failure::Closed),
            }
        };
        result.map_err(|failure| self.stop(failure).into_error(doing))
    }

    /// Runs one transaction. Stops the store if it fails.
    fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Transaction<'_, '_>) -> Result<T, Failure>,
    ) -> Result<(T, Finished), Failure> {
        self.revive()?;
        let done = contained(|| {
            let transaction = self.begin()?;
            let draft = Draft::of(&transaction);
            let mut decisions = Transaction::new(draft, self.revision, &*self.clock, &*self.ids);
            let answer = work(&mut decisions)?;
            let finished = decisions.finish(&self.limits)?;
            if finished.changed {
                transaction.commit()?;
            } else {
                transaction.abort()?;
            }
            Ok((answer, finished))
        });
        match done {
            Ok((answer, finished)) => {
                self.revision = finished.revision;
                Ok((answer, finished))
            }
            Err(failure) => Err(self.stop(failure)),
        }
    }

    fn begin(&self) -> Result<WriteTransaction, Failure> {
        let mut transaction = match &*self.state.home() {
            Home::Open(database) => database.begin_write()?,
            Home::Stopped(failure) => return Err(Failure::Stopped(failure.clone())),
            Home::Closed => return Err(Failure::Closed),
        };
        // See docs/adr: two syncs, so that no commit that was answered is ever taken for a torn one.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// Closes the database after a failure: what it has in memory is not to be trusted.
    fn stop(&mut self, failure: Failure) -> Failure {
        tracing::error!(file = self.medium.name(), error = %tappaas_core::Chain(&failure), "the store has stopped");
        self.stopped = Some(self.clock.now());
        self.state.leave(Home::Stopped(Arc::new(failure.clone())));
        failure
    }

    /// Opens the database again if the store has stopped and some time has passed.
    fn revive(&mut self) -> Result<(), Failure> {
        let Some(stopped) = self.stopped else {
            return Ok(());
        };
        let now = self.clock.now();
        let passed = now.as_second() - stopped.as_second();
        if (0..REOPEN_SECONDS).contains(&passed) {
            return match &*self.state.home() {
                Home::Stopped(failure) => Err(Failure::Stopped(failure.clone())),
                Home::Open(_) | Home::Closed => Ok(()),
            };
        }
        self.stopped = Some(now);
        let opened = self.medium.open().and_then(|database| {
            let revision = history::revision(&crate::rows::Snapshot::of(&database)?)?;
            Ok((database, revision))
        });
        match opened {
            Ok((database, revision)) => {
                tracing::info!(file = self.medium.name(), "the store is open again");
                self.revision = revision;
                self.stopped = None;
                *self.state.home_alone() = Home::Open(database);
                self.state.announce(Kind::ALL);
                Ok(())
            }
            Err(failure) => {
                let failure = Arc::new(failure);
                *self.state.home_alone() = Home::Stopped(failure.clone());
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
