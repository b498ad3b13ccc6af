use std::collections::BTreeMap;

use tappaas_core::{
    Batch, Clock, Error, Ids, Key, Kind, Object, Precondition, Revision,
    durable::decide_commit,
    store::{Outcome, decide_delete, decide_put, decide_put_status},
};

use crate::{
    Limits,
    failure::Failure,
    history,
    layout::{
        META, META_REVISION, decode_object, durable, encode_change, encode_number, encode_object,
        object_key, objects,
    },
    rows::Draft,
};

/// Something to be written.
#[derive(Debug)]
pub(crate) enum Write {
    Put(Object, Precondition),
    PutStatus(Object, Precondition),
    Delete(Key, Precondition),
    Commit(Batch),
}

/// Why a write did not happen.
pub(crate) enum Halt {
    /// It alone was refused; the transaction goes on without it.
    Refused(Error),
    /// The transaction cannot go on.
    Failed(Failure),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        match failure {
            // One bad row is the trouble of those who want that row.
            Failure::Damaged(_) => {
                Self::Refused(failure.into_error("cannot read what is to be changed"))
            }
            failure => Self::Failed(failure),
        }
    }
}

/// Writes decided one after the other, each seeing what those before it did.
pub(crate) struct Transaction<'a, 'txn> {
    draft: Draft<'txn>,
    clock: &'a dyn Clock,
    ids: &'a dyn Ids,
    /// The last revision given out.
    revision: u64,
    changes: BTreeMap<Kind, Vec<(u64, Vec<u8>)>>,
}

impl<'a, 'txn> Transaction<'a, 'txn> {
    pub(crate) fn new(
        draft: Draft<'txn>,
        revision: u64,
        clock: &'a dyn Clock,
        ids: &'a dyn Ids,
    ) -> Self {
        Self {
            draft,
            clock,
            ids,
            revision,
            changes: BTreeMap::new(),
        }
    }

    /// Decides a write and does it. Returns the object as it is then, if it was about one.
    pub(crate) fn apply(&mut self, write: Write) -> Result<Option<Object>, Halt> {
        match write {
            Write::Put(object, precondition) => {
                let existing = self.existing(&object.key())?;
                let (ids, now) = (self.ids, self.clock.now());
                let outcome = decide_put(
                    existing.as_ref(),
                    object,
                    precondition,
                    || ids.unique(),
                    now,
                )?;
                self.execute(outcome, existing)
            }
            Write::PutStatus(object, precondition) => {
                let existing = self.existing(&object.key())?;
                let outcome = decide_put_status(existing.as_ref(), object, precondition)?;
                self.execute(outcome, existing)
            }
            Write::Delete(key, precondition) => {
                let existing = self.existing(&key)?;
                let outcome =
                    decide_delete(existing.as_ref(), &key, precondition, self.clock.now())?;
                self.execute(outcome, existing)
            }
            Write::Commit(batch) => self.commit(batch).map(|()| None),
        }
    }

    /// Forgets at most `most` of the oldest changes of each kind, until `keep` are left. Says whether there are more to forget.
    pub(crate) fn forget(&mut self, keep: u64, most: u64) -> Result<bool, Failure> {
        let mut more = false;
        for kind in Kind::ALL {
            more |= history::trim(&mut self.draft, kind, keep, most)?;
        }
        Ok(more)
    }

    /// Writes the history of all changes, and says of which kinds there are any, and up to which revision.
    pub(crate) fn finish(mut self, limits: &Limits) -> Result<Finished, Failure> {
        for (kind, changes) in &self.changes {
            history::append(&mut self.draft, *kind, changes, limits)?;
        }
        if !self.changes.is_empty() {
            self.draft
                .put(META, META_REVISION, &encode_number(self.revision))?;
        }
        Ok(Finished {
            revision: self.revision,
            kinds: self.changes.into_keys().collect(),
            rows: self.draft.changed(),
        })
    }

    fn existing(&mut self, key: &Key) -> Result<Option<Object>, Failure> {
        let (table, row) = (objects(key.kind), object_key(key));
        let json = self.draft.get(&table, &row)?;
        json.map(|json| decode_object(&table, &row, &json))
            .transpose()
    }

    fn execute(
        &mut self,
        outcome: Outcome,
        existing: Option<Object>,
    ) -> Result<Option<Object>, Halt> {
        let (mut object, gone) = match outcome {
            Outcome::Keep(object) => (*object, false),
            Outcome::Remove(object) => (*object, true),
            Outcome::Nothing => return Ok(existing),
        };
        let revision = self.revision + 1;
        object.metadata.revision = Revision::from_counter(revision);
        let (table, row) = (objects(object.kind), object_key(&object.key()));
        let json = encode_object(&object)?;
        if gone {
            self.draft.remove(&table, &row)?;
        } else {
            self.draft.put(&table, &row, &json)?;
        }
        let changes = self.changes.entry(object.kind).or_default();
        changes.push((revision, encode_change(&json, gone)));
        self.revision = revision;
        Ok(Some(object))
    }

    fn commit(&mut self, batch: Batch) -> Result<(), Halt> {
        decide_commit(&batch, |table, key| {
            Ok::<_, Halt>(self.draft.get(&durable(table), key)?)
        })?;
        for write in batch.writes {
            let table = durable(&write.table);
            match write.value {
                Some(value) => self.draft.put(&table, &write.key, &value)?,
                None => self.draft.remove(&table, &write.key)?,
            }
        }
        Ok(())
    }
}

/// What a transaction comes to.
pub(crate) struct Finished {
    /// The last revision given out.
    pub(crate) revision: u64,
    /// The kinds that have new changes.
    pub(crate) kinds: Vec<Kind>,
    /// How many rows were changed.
    pub(crate) rows: u64,
}
