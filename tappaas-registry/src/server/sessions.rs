use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderValue, StatusCode, header};
use tappaas_core::{Ids, Timestamp};

use super::failure::Failure;
use crate::{RepositoryName, Store, Writer};

/// The uploads that have begun and not ended. They end with the process: a client then begins anew.
#[derive(Debug)]
pub(super) struct Sessions {
    store: Store,
    ids: Arc<dyn Ids>,
    open: Mutex<HashMap<String, Arc<Session>>>,
}

/// One upload.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) repository: RepositoryName,
    /// Held by the one request that sends content; empty once the upload has ended.
    pub(super) writer: tokio::sync::Mutex<Option<Writer>>,
    /// How much has been accepted.
    pub(super) received: AtomicU64,
    used: Mutex<Timestamp>,
}

impl Sessions {
    pub(super) fn new(store: Store, ids: Arc<dyn Ids>) -> Self {
        Self {
            store,
            ids,
            open: Mutex::new(HashMap::new()),
        }
    }

    /// Begins an upload, after dropping those that have idled too long.
    pub(super) fn begin(&self, repository: RepositoryName) -> Result<Arc<Session>, Failure> {
        let now = self.store.now();
        let session = Arc::new(Session {
            id: self.ids.unique(),
            repository,
            writer: tokio::sync::Mutex::new(Some(self.store.writer())),
            received: AtomicU64::new(0),
            used: Mutex::new(now),
        });
        let mut open = self.lock();
        open.retain(|_, session| !self.has_idled(session, now));
        if open.len() >= self.store.limits().uploads_max {
            let retry = HeaderValue::from(self.store.limits().upload_idle_seconds);
            return Err(Failure::new(
                StatusCode::TOO_MANY_REQUESTS,
                "TOOMANYREQUESTS",
                "too many uploads are open; end or cancel one",
            )
            .with(header::RETRY_AFTER, retry));
        }
        open.insert(session.id.clone(), session.clone());
        Ok(session)
    }

    /// Finds an upload of that repository, and counts as its use.
    pub(super) fn find(
        &self,
        repository: &RepositoryName,
        id: &str,
    ) -> Result<Arc<Session>, Failure> {
        let now = self.store.now();
        let found = self.lock().get(id).cloned();
        let session = found
            .filter(|session| session.repository == *repository && !self.has_idled(session, now));
        let session = session.ok_or_else(Failure::upload_unknown)?;
        session.touch(now);
        Ok(session)
    }

    /// Ends an upload; what it received goes, unless it was taken.
    pub(super) async fn end(&self, session: &Session) {
        self.lock().remove(&session.id);
        if let Some(writer) = session.writer.lock().await.take() {
            writer.discard().await;
        }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Marks the end of a request that sent content.
    pub(super) fn used(&self, session: &Session) {
        session.touch(self.store.now());
    }

    /// An upload that content is being sent to is not idle, however slow the sender is.
    fn has_idled(&self, session: &Session, now: Timestamp) -> bool {
        let used = *session.used.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = now.duration_since(used).unsigned_abs();
        now > used && idle > self.store.limits().upload_idle() && session.writer.try_lock().is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Where the client goes on.
    pub(super) fn location(&self) -> String {
        format!("/v2/{}/blobs/uploads/{}", self.repository, self.id)
    }

    /// What has been received, as the specification wants it: inclusive, `0-0` also for nothing.
    pub(super) fn range(&self) -> String {
        format!(
            "0-{}",
            self.received.load(Ordering::Acquire).saturating_sub(1)
        )
    }

    fn touch(&self, now: Timestamp) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}
