use std::{collections::BTreeMap, ops::Bound};

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, TableError, WriteTransaction,
};

use crate::failure::Failure;

type Bytes = &'static [u8];

/// The rows of all tables as one commit left them.
pub(crate) struct Snapshot(ReadTransaction);

impl Snapshot {
    pub(crate) fn of(database: &impl ReadableDatabase) -> Result<Self, Failure> {
        Ok(Self(database.begin_read()?))
    }

    pub(crate) fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let Some(rows) = self.table(table)? else {
            return Ok(None);
        };
        let Some(sealed) = rows.get(key)? else {
            return Ok(None);
        };
        Ok(Some(unseal(table, key, sealed.value())?.to_vec()))
    }

    /// Reads rows in order of their keys, from a bound on, until `visit` returns `false`.
    pub(crate) fn scan(
        &self,
        table: &str,
        from: Bound<&[u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let Some(rows) = self.table(table)? else {
            return Ok(());
        };
        for row in rows.range::<&[u8]>((from, Bound::Unbounded))? {
            let (key, sealed) = row?;
            if !visit(key.value(), unseal(table, key.value(), sealed.value())?)? {
                break;
            }
        }
        Ok(())
    }

    fn table(&self, name: &str) -> Result<Option<ReadOnlyTable<Bytes, Bytes>>, Failure> {
        match self.0.open_table(definition(name)) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The names of all tables.
    pub(crate) fn tables(&self) -> Result<Vec<String>, Failure> {
        use redb::TableHandle;
        Ok(self
            .0
            .list_tables()?
            .map(|table| table.name().to_owned())
            .collect())
    }
}

/// The rows of all tables with the changes of a transaction that is not committed.
pub(crate) struct Draft<'txn> {
    transaction: &'txn WriteTransaction,
    tables: BTreeMap<String, Table<'txn, Bytes, Bytes>>,
    changed: u64,
}

impl<'txn> Draft<'txn> {
    pub(crate) fn of(transaction: &'txn WriteTransaction) -> Self {
        Self {
            transaction,
            tables: BTreeMap::new(),
            changed: 0,
        }
    }

    /// How many rows were changed.
    pub(crate) fn changed(&self) -> u64 {
        self.changed
    }

    pub(crate) fn get(&mut self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let Some(sealed) = self.table(table)?.get(key)? else {
            return Ok(None);
        };
        Ok(Some(unseal(table, key, sealed.value())?.to_vec()))
    }

    pub(crate) fn put(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.changed += 1;
        let sealed = seal(table, key, value);
        self.table(table)?.insert(key, &*sealed)?;
        Ok(())
    }

    pub(crate) fn remove(&mut self, table: &str, key: &[u8]) -> Result<(), Failure> {
        let removed = self.table(table)?.remove(key)?.is_some();
        self.changed += u64::from(removed);
        Ok(())
    }

    /// Removes the first row and returns its key and the length of its value.
    pub(crate) fn remove_first(
        &mut self,
        table: &str,
    ) -> Result<Option<(Vec<u8>, usize)>, Failure> {
        let Some((key, sealed)) = self.table(table)?.pop_first()? else {
            return Ok(None);
        };
        let removed = (
            key.value().to_vec(),
            sealed.value().len().saturating_sub(SEAL),
        );
        drop((key, sealed));
        self.changed += 1;
        Ok(Some(removed))
    }

    pub(crate) fn len(&mut self, table: &str) -> Result<u64, Failure> {
        Ok(self.table(table)?.len()?)
    }

    fn table(&mut self, name: &str) -> Result<&mut Table<'txn, Bytes, Bytes>, Failure> {
        if !self.tables.contains_key(name) {
            let table = self.transaction.open_table(definition(name))?;
            self.tables.insert(name.to_owned(), table);
        }
        Ok(self.tables.get_mut(name).expect("it was opened above"))
    }
}

/// Reads every row of every table, and says which is the first that is not as it was written.
pub(crate) fn find_damage(database: &impl ReadableDatabase) -> Result<(), Failure> {
    let snapshot = Snapshot::of(database)?;
    for table in snapshot.tables()? {
        snapshot.scan(&table, Bound::Unbounded, |_, _| Ok(true))?;
    }
    Ok(())
}

fn definition(name: &str) -> TableDefinition<'_, Bytes, Bytes> {
    TableDefinition::new(name)
}

/// The bytes of a checksum before each value. The database checks its pages when it opens, not when it reads them.
const SEAL: usize = 4;

fn seal(table: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(SEAL + value.len());
    sealed.extend_from_slice(&checksum(table, key, value));
    sealed.extend_from_slice(value);
    sealed
}

fn unseal<'a>(table: &str, key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], Failure> {
    match sealed.split_at_checked(SEAL) {
        Some((seal, value)) if seal == checksum(table, key, value) => Ok(value),
        _ => Err(Failure::damaged_row(
            table,
            key,
            "its checksum does not match",
        )),
    }
}

/// Covers the place of a row too, so that a row at the wrong place is found out.
fn checksum(table: &str, key: &[u8], value: &[u8]) -> [u8; SEAL] {
    let mut hasher = crc32fast::Hasher::new();
    for part in [table.as_bytes(), key] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}
