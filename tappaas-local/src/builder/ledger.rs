use std::sync::Arc;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tappaas_core::{
    Batch, Digest, Durable, Error, Result, Timestamp,
    backend::{BuildId, BuildOutcome, BuildRequest},
};

/// What the builder must not forget: the requests that wait or run, and what finished builds came to.
#[derive(Debug)]
pub(super) struct Ledger {
    durable: Arc<dyn Durable>,
}

/// A request that waits or runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) request: BuildRequest,
    pub(super) since: Timestamp,
    /// How often it was begun.
    pub(super) starts: u32,
}

/// What a finished build came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Finished {
    pub(super) outcome: BuildOutcome,
    pub(super) at: Timestamp,
    /// The request whose log tells how.
    pub(super) log: BuildId,
}

const QUEUE: &str = "builder.queue";
const FINISHED: &str = "builder.finished";
const PAGE: usize = 500;
/// Of so many builds it is remembered what they came to; older ones are built anew if somebody asks.
const FINISHED_MAX: usize = 5000;

impl Ledger {
    pub(super) fn new(durable: Arc<dyn Durable>) -> Self {
        Self { durable }
    }

    /// The requests that waited or ran when this was last written, the oldest first.
    pub(super) async fn pending(&self) -> Result<Vec<Pending>> {
        let mut pending: Vec<Pending> = self
            .all(QUEUE)
            .await?
            .into_iter()
            .map(|(_, row)| row)
            .collect();
        pending.sort_by_key(|pending| pending.since);
        Ok(pending)
    }

    pub(super) async fn put(&self, pending: &Pending) -> Result<()> {
        let key = pending.request.id.0.as_bytes();
        self.durable
            .commit(Batch::new().put(QUEUE, key, &encode(pending)))
            .await
    }

    /// The requests neither wait nor run any more; `finished` is what they came to, at this place.
    pub(super) async fn settle(
        &self,
        requests: &[BuildId],
        finished: Option<(&Digest, &Finished)>,
    ) -> Result<()> {
        let mut batch = Batch::new();
        for id in requests {
            batch = batch.delete(QUEUE, id.0.as_bytes());
        }
        if let Some((place, finished)) = finished {
            batch = batch.put(FINISHED, place.hex().as_bytes(), &encode(finished));
        }
        self.durable.commit(batch).await
    }

    pub(super) async fn finished(&self, place: &Digest) -> Result<Option<Finished>> {
        let row = self.durable.get(FINISHED, place.hex().as_bytes()).await?;
        row.map(|row| decode(&row)).transpose()
    }

    /// Forgets the oldest finished builds beyond what is remembered.
    pub(super) async fn prune(&self) -> Result<()> {
        let mut finished: Vec<(Vec<u8>, Finished)> = self.all(FINISHED).await?;
        finished.sort_by_key(|(_, finished)| std::cmp::Reverse(finished.at));
        let mut batch = Batch::new();
        for (key, _) in finished.iter().skip(FINISHED_MAX) {
            batch = batch.delete(FINISHED, key);
        }
        match batch.writes.is_empty() {
            true => Ok(()),
            false => self.durable.commit(batch).await,
        }
    }

    async fn all<T: DeserializeOwned>(&self, table: &str) -> Result<Vec<(Vec<u8>, T)>> {
        let mut all = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self
                .durable
                .scan(table, b"", after.as_deref(), PAGE)
                .await?;
            let Some(last) = rows.last() else {
                return Ok(all);
            };
            after = Some(last.key.clone());
            for row in rows {
                all.push((row.key, decode(&row.value)?));
            }
        }
    }
}

fn encode(row: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(row).expect("a row has string keys only")
}

fn decode<T: DeserializeOwned>(row: &[u8]) -> Result<T> {
    serde_json::from_slice(row)
        .map_err(|error| Error::internal("cannot read what the builder noted").with_source(error))
}
