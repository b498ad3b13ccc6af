//! The [`Durable`] trait, and the pure decision behind its commits.

use std::fmt;

use async_trait::async_trait;

use crate::{Error, Result};

/// Named tables of bytes, for what several embedded backends must keep on disk.
///
/// # Contract
/// - `commit` is atomic over all its tables: all writes are seen, or none, also after a crash.
/// - `commit` is answered after the writes are durable.
/// - `commit` fails with `Conflict`, and writes nothing, if a check does not hold.
/// - Of concurrent commits with the same check, each of which makes it fail, exactly one succeeds.
/// - The writes of a batch happen in order: the last one to a row stays.
/// - A table exists as soon as it is named; one that was never written is empty.
/// - `scan` returns the rows whose keys begin with `prefix`, in order of their keys, beginning right after `after`. It returns fewer than
///   `limit` only if there are no more.
/// - Reads see what the last answered commit left, and nothing that a crash could still take back.
/// - A table's name that is empty or longer than [`Batch::TABLE_MAX`] bytes, and a batch above [`Batch::SIZE_MAX`], are `Invalid`.
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
#[derive(Clone, Eq, PartialEq)]
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
    /// The most bytes of tables' names, keys and values in one batch.
    pub const SIZE_MAX: usize = 16 << 20;

    /// The most bytes in a table's name.
    pub const TABLE_MAX: usize = 64;

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

    /// The bytes of all tables' names, keys and values.
    pub fn size(&self) -> usize {
        let row = |table: &str, key: &[u8], value: &Option<Vec<u8>>| {
            table.len() + key.len() + value.as_ref().map_or(0, Vec::len)
        };
        let checks = self.checks.iter().map(|c| row(&c.table, &c.key, &c.value));
        let writes = self.writes.iter().map(|w| row(&w.table, &w.key, &w.value));
        checks.chain(writes).sum()
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
#[derive(Clone, Eq, PartialEq)]
pub struct Check {
    /// The table's name.
    pub table: String,
    /// The row's key.
    pub key: Vec<u8>,
    /// The value the row must have; `None`: it must be absent.
    pub value: Option<Vec<u8>>,
}

/// A write of a [`Batch`].
#[derive(Clone, Eq, PartialEq)]
pub struct Write {
    /// The table's name.
    pub table: String,
    /// The row's key.
    pub key: Vec<u8>,
    /// The new value; `None` removes the row.
    pub value: Option<Vec<u8>>,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({}, ", self.key.escape_ascii())?;
        write!(f, "{} bytes)", self.value.len())
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_row(f, "Check", &self.table, &self.key, self.value.as_deref())
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_row(f, "Write", &self.table, &self.key, self.value.as_deref())
    }
}

/// Values stay out of logs: they are whatever the owner of the table keeps there.
fn debug_row(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    table: &str,
    key: &[u8],
    value: Option<&[u8]>,
) -> fmt::Result {
    write!(f, "{what}({table}, {}, ", key.escape_ascii())?;
    match value {
        Some(value) => write!(f, "{} bytes)", value.len()),
        None => f.write_str("absent)"),
    }
}

/// Decides whether [`Durable::commit`] may write. Pure, so that every embedded store means the same by it; `row` reads a row as it is.
///
/// # Errors
/// As the contract of [`Durable`] says, and those of `row`.
pub fn decide_commit<E: From<Error>>(
    batch: &Batch,
    mut row: impl FnMut(&str, &[u8]) -> Result<Option<Vec<u8>>, E>,
) -> Result<(), E> {
    let checked = batch.checks.iter().map(|check| &check.table);
    for table in checked.chain(batch.writes.iter().map(|write| &write.table)) {
        check_table(table)?;
    }
    let size = batch.size();
    if size > Batch::SIZE_MAX {
        let max = Batch::SIZE_MAX;
        let message = format!("a batch of {size} bytes is too large; at most {max} are allowed");
        return Err(Error::invalid(message).into());
    }
    for check in &batch.checks {
        if row(&check.table, &check.key)? != check.value {
            let table = &check.table;
            let message = format!("a row of table `{table}` was changed by somebody else");
            return Err(Error::conflict(message).into());
        }
    }
    Ok(())
}

/// Refuses a table's name that the contract of [`Durable`] does not allow.
///
/// # Errors
/// `Invalid`.
pub fn check_table(table: &str) -> Result<()> {
    if (1..=Batch::TABLE_MAX).contains(&table.len()) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a table's name has {} bytes; expected 1 to {}",
        table.len(),
        Batch::TABLE_MAX
    )))
}
