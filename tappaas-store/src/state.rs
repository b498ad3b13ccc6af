use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError},
};

use redb::Database;
use tappaas_core::Kind;
use tokio::sync::watch;

use crate::{
    failure::{Failure, contained},
    listing::Listings,
    rows::Snapshot,
};

/// What the committer and the readers share.
pub(crate) struct State {
    home: RwLock<Home>,
    pub(crate) listings: Mutex<Listings>,
    changed: BTreeMap<Kind, watch::Sender<()>>,
}

/// The database, or why there is none.
pub(crate) enum Home {
    Open(Database),
    Stopped(Arc<Failure>),
    Closed,
}

impl State {
    pub(crate) fn new(database: Database) -> Self {
        Self {
            home: RwLock::new(Home::Open(database)),
            listings: Mutex::default(),
            changed: Kind::ALL
                .into_iter()
                .map(|kind| (kind, watch::Sender::new(())))
                .collect(),
        }
    }

    /// Reads at a snapshot. Waits while the database is opened or made smaller.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(Snapshot) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let home = self.home.read().unwrap_or_else(PoisonError::into_inner);
        read_at(&home, work)
    }

    /// Reads at a snapshot, or returns `work` again if that would have to wait.
    pub(crate) fn try_read<T, W: FnOnce(Snapshot) -> Result<T, Failure>>(
        &self,
        work: W,
    ) -> Result<Result<T, Failure>, W> {
        match self.home.try_read() {
            Ok(home) => Ok(read_at(&home, work)),
            Err(TryLockError::Poisoned(home)) => Ok(read_at(&home.into_inner(), work)),
            Err(TryLockError::WouldBlock) => Err(work),
        }
    }

    pub(crate) fn home(&self) -> RwLockReadGuard<'_, Home> {
        self.home.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody reads, and keeps readers away.
    pub(crate) fn home_alone(&self) -> RwLockWriteGuard<'_, Home> {
        let home = self.home.write().unwrap_or_else(PoisonError::into_inner);
        self.listings().clear();
        home
    }

    /// Closes the database if there is one, puts something else in its place, and wakes all watchers.
    pub(crate) fn leave(&self, instead: Home) {
        let home = std::mem::replace(&mut *self.home_alone(), instead);
        let closed = contained(|| match home {
            Home::Open(database) => Ok(database.close()?),
            Home::Stopped(_) | Home::Closed => Ok(()),
        });
        if let Err(failure) = closed {
            tracing::warn!(%failure, "the database did not close properly");
        }
        self.announce(Kind::ALL);
    }

    pub(crate) fn listings(&self) -> std::sync::MutexGuard<'_, Listings> {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the watchers of some kinds.
    pub(crate) fn announce(&self, kinds: impl IntoIterator<Item = Kind>) {
        for kind in kinds {
            self.changed[&kind].send_replace(());
        }
    }

    pub(crate) fn subscribe(&self, kind: Kind) -> watch::Receiver<()> {
        self.changed[&kind].subscribe()
    }
}

fn read_at<T>(
    home: &Home,
    work: impl FnOnce(Snapshot) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match home {
        Home::Open(database) => contained(|| work(Snapshot::of(database)?)),
        Home::Stopped(failure) => Err(Failure::Stopped(failure.clone())),
        Home::Closed => Err(Failure::Closed),
    }
}
