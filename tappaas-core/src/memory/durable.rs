use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;

use super::lock::lock;
use crate::{
    Batch, Result, Row,
    durable::{self, check_table, decide_commit},
};

type Table = BTreeMap<Vec<u8>, Vec<u8>>;

/// Tables in memory. Clones are the same tables.
#[derive(Clone, Default)]
pub struct Durable(Arc<Mutex<BTreeMap<String, Table>>>);

impl Durable {
    /// Starts without any table.
    pub fn new() -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tables = lock(&self.0);
        let rows = tables.iter().map(|(name, table)| (name, table.len()));
        f.write_str("Durable")?;
        f.debug_map().entries(rows).finish()
    }
}

#[async_trait]
impl durable::Durable for Durable {
    async fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        check_table(table)?;
        Ok(lock(&self.0)
            .get(table)
            .and_then(|rows| rows.get(key).cloned()))
    }

    async fn scan(
        &self,
        table: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        check_table(table)?;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let tables = lock(&self.0);
        let rows = tables.get(table).into_iter();
        let rows = rows.flat_map(|rows| rows.range::<[u8], _>((from, Bound::Unbounded)));
        Ok(rows
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| Row {
                key: key.clone(),
                value: value.clone(),
            })
            .collect())
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        let mut tables = lock(&self.0);
        decide_commit(&batch, |table, key| {
            let rows = tables.get(table);
            Ok::<_, crate::Error>(rows.and_then(|rows| rows.get(key).cloned()))
        })?;
        for write in batch.writes {
            let rows = tables.entry(write.table).or_default();
            match write.value {
                Some(value) => rows.insert(write.key, value),
                None => rows.remove(&write.key),
            };
        }
        Ok(())
    }
}
