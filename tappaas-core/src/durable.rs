use std::fmt;

use async_trait::async_trait;

use crate::Result;

/// Named tables of bytes, for what several embedded backends must keep on disk.
///
/// # Contract
/// - `commit` is atomic over all its tables: all writes are seen, or none, also after a crash.
/// - `commit` is answered after the writes are durable.
/// - `commit` fails with `Conflict`, and writes nothing, if a check does not hold.
/// - A table exists as soon as it is named.
/// - `scan` returns rows in order of their keys, at most `limit`, beginning with `from` or right after it.
/// - Reads see what the last answered commit left.
#[async_trait]
pub trait Durable: fmt::Debug + Send + Sync + 'static {
    /// Reads one row.
    async fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Reads up to `limit` rows whose key starts with `prefix`, in order, from the first key greater than `after`.
    async fn scan(
        &self,
        table: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>>;

    /// Writes a batch if every check holds.
    async fn commit(&self, batch: Batch) -> Result<()>;
}

/// A row of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// The row's key.
    pub key: Vec<u8>,
    /// The row's value.
    pub value: Vec<u8>,
}

/// Checks and writes that happen together.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Batch {
    /// All must hold before anything is written.
    pub checks: Vec<Check>,
    /// Done in order.
    pub writes: Vec<Write>,
}

impl Batch {
    /// Creates an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requires that a row has this value, or that it is absent.
    #[must_use]
    pub fn check(mut self, table: &str, key: &[u8], value: Option<&[u8]>) -> Self {
        self.checks.push(Check {
            table: table.to_owned(),
            key: key.to_vec(),
            value: value.map(<[u8]>::to_vec),
        });
        self
    }

    /// Writes a row.
    #[must_use]
    pub fn put(self, table: &str, key: &[u8], value: &[u8]) -> Self {
        self.write(table, key, Some(value))
    }

    /// Removes a row.
    #[must_use]
    pub fn delete(self, table: &str, key: &[u8]) -> Self {
        self.write(table, key, None)
    }

    fn write(mut self, table: &str, key: &[u8], value: Option<&[u8]>) -> Self {
        self.writes.push(Write {
            table: table.to_owned(),
            key: key.to_vec(),
            value: value.map(<[u8]>::to_vec),
        });
        self
    }
}

/// A condition of a [`Batch`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// The table's name.
    pub table: String,
    /// The row's key.
    pub key: Vec<u8>,
    /// The value the row must have; `None`: it must be absent.
    pub value: Option<Vec<u8>>,
}

/// A write of a [`Batch`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Write {
    /// The table's name.
    pub table: String,
    /// The row's key.
    pub key: Vec<u8>,
    /// The new value; `None` removes the row.
    pub value: Option<Vec<u8>>,
}
