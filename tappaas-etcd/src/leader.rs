//! One of several servers leads, by a lease.

use std::{fmt, sync::Arc, time::Duration};

use tappaas_core::{Chain, Error, Result};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{
    Keyspace,
    client::Client,
    messages::{
        LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE, LeaseGrantRequest, LeaseGrantResponse,
        LeaseKeepAliveResponse, LeaseRequest, LeaseRevokeResponse,
    },
    transaction::{Committed, put},
};

/// A lease that was not renewed for so long is taken back by etcd.
const HELD_FOR: Duration = Duration::from_secs(15);
/// Whoever could not renew it for so long gives up leading: well before another one may begin to.
const RENEW_MAX: Duration = Duration::from_secs(10);
/// How often it is renewed, or asked for.
const PERIOD: Duration = Duration::from_secs(2);

/// A candidate for leading all servers that use one keyspace.
///
/// Who leads has a key there, with a lease of 15 seconds, which etcd counts: nobody compares clocks. What leads runs for up to 10 seconds
/// after it asked for the last renewal that it got, and nobody else begins before 15: so two never lead at once, unless a process sleeps for
/// the difference. Writes are guarded by revisions all the same.
pub struct Candidate {
    client: Arc<Client>,
    name: String,
    key: Vec<u8>,
    identity: String,
    /// The lease that the key was last taken with.
    lease: Option<i64>,
}

impl Candidate {
    /// A candidate called `identity`, which no other is called, for leading what is called `name`.
    pub fn new(keyspace: &Keyspace, name: impl Into<String>, identity: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            client: Arc::clone(&keyspace.client),
            key: keyspace.layout.leader(&name),
            name,
            identity: identity.into(),
            lease: None,
        }
    }

    /// Runs `work` whenever this candidate leads, and drops it when it does not any more. Returns what `work` does.
    ///
    /// What cannot be asked is asked again; dropping this gives up leading without telling: [`Candidate::release`] tells.
    pub async fn lead<W: Future>(&mut self, work: impl Fn() -> W) -> W::Output {
        loop {
            let (lease, since) = self.acquire().await;
            tracing::info!(identity = self.identity, "leads");
            tokio::select! {
                done = work() => return done,
                () = self.renew(lease, since) => {}
            }
            tracing::warn!(identity = self.identity, "does not lead any more");
        }
    }

    /// Lets the next one begin at once.
    ///
    /// # Errors
    /// What etcd says; then the lease runs out by itself.
    pub async fn release(&mut self) -> Result<()> {
        let Some(lease) = self.lease else {
            return Ok(());
        };
        let revoked = self.revoke(lease).await;
        revoked.map_err(|status| self.failure("give up", &status))?;
        self.lease = None;
        Ok(())
    }

    /// The lease, and when it was asked for.
    async fn acquire(&mut self) -> (i64, Instant) {
        loop {
            let asked = Instant::now();
            match self.attempt().await {
                Ok(Some(lease)) if asked.elapsed() < RENEW_MAX => return (lease, asked),
                Ok(_) => {}
                Err(error) => tracing::warn!("cannot ask for the lease: {}", Chain(&error)),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Takes the key if nobody has it, or if this candidate had it before its process was started again.
    async fn attempt(&mut self) -> Result<Option<i64>> {
        let taken = self.take().await;
        taken.map_err(|status| self.failure("ask for", &status))
    }

    async fn take(&mut self) -> Result<Option<i64>, Status> {
        let expected = match self.client.find(&self.key).await? {
            None => 0,
            Some(held) if held.value == self.identity.as_bytes() => held.mod_revision,
            Some(_) => return Ok(None),
        };
        let wanted = LeaseGrantRequest {
            ttl: i64::try_from(HELD_FOR.as_secs()).unwrap_or(i64::MAX),
        };
        let granted: LeaseGrantResponse = self.client.call(&LEASE_GRANT, wanted).await?;
        // Kept at once: should the answer be lost, the key may be taken.
        self.lease = Some(granted.id);
        let taken = put(&self.key, self.identity.as_str(), granted.id);
        match self.client.commit(&self.key, expected, taken).await? {
            Committed::Done(_) => Ok(Some(granted.id)),
            Committed::TooLate(_) => {
                self.lease = None;
                self.revoke(granted.id).await?;
                Ok(None)
            }
        }
    }

    /// Returns once the lease is lost, or may be.
    async fn renew(&self, lease: i64, since: Instant) {
        let mut renewed = since;
        loop {
            let until = renewed + RENEW_MAX;
            tokio::time::sleep_until(until.min(Instant::now() + PERIOD)).await;
            let asked = Instant::now();
            match tokio::time::timeout_at(until, self.confirm(lease)).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(status)) => {
                    let error = self.failure("renew", &status);
                    tracing::warn!("{}", Chain(&error));
                }
            }
        }
    }

    /// Renews the lease, and makes sure that the key is still there with it.
    async fn confirm(&self, lease: i64) -> Result<bool, Status> {
        let request = LeaseRequest { id: lease };
        let alive: LeaseKeepAliveResponse = self.client.call(&LEASE_KEEP_ALIVE, request).await?;
        if alive.ttl == 0 {
            return Ok(false);
        }
        let held = self.client.find(&self.key).await?;
        Ok(held.is_some_and(|held| held.lease == lease))
    }

    /// Gives the lease back, and the key with it.
    async fn revoke(&self, lease: i64) -> Result<(), Status> {
        let request = LeaseRequest { id: lease };
        let revoked: Result<LeaseRevokeResponse, Status> =
            self.client.call(&LEASE_REVOKE, request).await;
        match revoked {
            // It has run out.
            Err(status) if status.code() == Code::NotFound => Ok(()),
            revoked => revoked.map(|_| ()),
        }
    }

    fn failure(&self, doing: &str, status: &Status) -> Error {
        let doing = format!("cannot {doing} the lead of `{}`", self.name);
        self.client.failure(doing, status)
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("name", &self.name)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
