//! One of several replicas leads, by a Lease.

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tappaas_core::{Chain, Clock, Result};
use tokio::time::Instant;

use crate::failure::{failure, is, within};

/// Whoever has not renewed the lease for so long has lost it.
const HELD_FOR: Duration = Duration::from_secs(15);
/// Whoever could not renew it for so long gives up leading: well before another one may begin to.
const RENEW_MAX: Duration = Duration::from_secs(10);
/// How often it is renewed, or asked for.
const PERIOD: Duration = Duration::from_secs(2);

/// A candidate for leading all replicas that name the same Lease.
///
/// As in Kubernetes' own components nobody compares clocks: a lease is taken over once it has been *seen* unchanged for as long as it is held
/// (`client-go`'s `leaderelection` does the same). What leads may run for up to 10 seconds after the last renewal, and nobody else begins
/// before 15: so two never lead at once, unless a process sleeps for the difference. Writes are guarded by `resourceVersion` all the same.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    clock: Arc<dyn Clock>,
    /// The revision of the lease seen last, and since when it has been that.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    /// A candidate called `identity`, which no other is called, for the Lease `name` in `namespace`.
    pub fn new(
        client: Client,
        namespace: &str,
        name: impl Into<String>,
        identity: impl Into<String>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.into(),
            identity: identity.into(),
            clock,
            seen: None,
        }
    }

    /// Runs `work` whenever this candidate leads, and drops it when it does not any more. Returns what `work` does.
    ///
    /// What cannot be asked is asked again; dropping this gives up leading without telling: [`Candidate::release`] tells.
    pub async fn lead<W: Future>(&mut self, work: impl Fn() -> W) -> W::Output {
        loop {
            self.acquire().await;
            tracing::info!(identity = self.identity, "leads");
            tokio::select! {
                done = work() => return done,
                () = self.renew() => {}
            }
            tracing::warn!(identity = self.identity, "does not lead any more");
        }
    }

    /// Lets the next one begin at once.
    ///
    /// # Errors
    /// What the API server says; then the lease runs out by itself.
    pub async fn release(&mut self) -> Result<()> {
        let Some(lease) = self.read().await? else {
            return Ok(());
        };
        if holder(&lease) == Some(&self.identity) {
            let mut freed = lease;
            if let Some(spec) = &mut freed.spec {
                spec.holder_identity = None;
            }
            self.write(freed).await?;
        }
        Ok(())
    }

    async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!("cannot ask for the lease: {}", Chain(&error)),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Returns once the lease is lost, or may be.
    async fn renew(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(PERIOD).await;
            let until = renewed + RENEW_MAX;
            match tokio::time::timeout_at(until, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => tracing::warn!("cannot renew the lease: {}", Chain(&error)),
            }
            if Instant::now() >= until {
                return;
            }
        }
    }

    /// Takes the lease, or renews it. `Ok(false)`: somebody else has it.
    async fn attempt(&mut self) -> Result<bool> {
        let Some(lease) = self.read().await? else {
            return self.write(self.lease(None)).await;
        };
        let revision = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == revision => *since,
            _ => Instant::now(),
        };
        self.seen = Some((revision, since));
        let free = match holder(&lease) {
            None | Some("") => true,
            Some(holder) => *holder == self.identity || since.elapsed() >= HELD_FOR,
        };
        match free {
            true => self.write(self.lease(Some(lease))).await,
            false => Ok(false),
        }
    }

    /// The lease as this candidate's.
    fn lease(&self, last: Option<Lease>) -> Lease {
        let now = MicroTime(self.clock.now());
        let last = last.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let spec = last.spec.clone().unwrap_or_default();
        let same = holder(&last) == Some(&self.identity);
        let changes = spec.lease_transitions.unwrap_or(0);
        Lease {
            metadata: last.metadata,
            spec: Some(LeaseSpec {
                acquire_time: spec
                    .acquire_time
                    .filter(|_| same)
                    .or_else(|| Some(now.clone())),
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(HELD_FOR.as_secs()).ok(),
                lease_transitions: Some(if same { changes } else { changes + 1 }),
                renew_time: Some(now),
                ..spec
            }),
        }
    }

    async fn read(&self) -> Result<Option<Lease>> {
        let found = within(self.api.get_opt(&self.name)).await;
        found.map_err(|error| failure(format!("cannot read lease {}", self.name), error))
    }

    /// Writes the lease if it is as it was read. `Ok(false)`: somebody else was quicker.
    async fn write(&self, lease: Lease) -> Result<bool> {
        let parameters = PostParams::default();
        let written = match &lease.metadata.resource_version {
            Some(_) => within(self.api.replace(&self.name, &parameters, &lease)).await,
            None => within(self.api.create(&parameters, &lease)).await,
        };
        let gone = |error| lease.metadata.resource_version.is_some() && is(error, 404);
        match written {
            Ok(_) => Ok(true),
            Err(error) if is(&error, 409) || gone(&error) => Ok(false),
            Err(error) => Err(failure(format!("cannot write lease {}", self.name), error)),
        }
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

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}
