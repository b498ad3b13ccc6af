use std::time::Duration;

use tappaas_core::{Error, Key, Object, Result, store::Outcome};

use crate::{
    Keyspace,
    layout::{counter, encode, revision},
    transaction::{Committed, put, removal},
};

/// How often a write that takes any revision is decided again because somebody else was quicker.
const ATTEMPTS: u32 = 64;
/// How much longer it waits each time before it is.
const PAUSE: Duration = Duration::from_millis(5);

/// What became of a write.
enum Written {
    /// The object is like this now, with its revision; `None` if there was nothing to do.
    Done(Option<Box<Object>>),
    /// Somebody else was quicker, and left the object like this.
    TooLate(Option<Box<Object>>),
}

impl Keyspace {
    /// Decides what a write comes to with what is there, and does that. Returns the object as it is then.
    ///
    /// If somebody else was quicker it is decided again, which refuses a caller who expects what was there before.
    pub(crate) async fn write(
        &self,
        key: &Key,
        decide: impl Fn(Option<&Object>) -> Result<Outcome>,
    ) -> Result<Option<Object>> {
        key.check()?;
        let mut existing = self.read(key).await?;
        for attempt in 1..=ATTEMPTS {
            let outcome = decide(existing.as_ref())?;
            match self.carry_out(key, existing, outcome).await? {
                Written::Done(object) => return Ok(object.map(|object| *object)),
                Written::TooLate(object) => existing = object.map(|object| *object),
            }
            self.clock.sleep(PAUSE * attempt).await;
        }
        Err(Error::unavailable(format!(
            "{key} was changed by others {ATTEMPTS} times while it was written"
        )))
    }

    async fn carry_out(
        &self,
        key: &Key,
        existing: Option<Object>,
        outcome: Outcome,
    ) -> Result<Written> {
        let place = self.layout.object(key);
        let expected = existing.as_ref().map(|object| object.metadata.revision);
        let (change, left) = match (outcome, existing) {
            (Outcome::Nothing, existing) => return Ok(Written::Done(existing.map(Box::new))),
            (Outcome::Keep(object), _) => (put(&place, encode(&object)?, 0), object),
            (Outcome::Remove(_), Some(existing)) => (removal(&place), Box::new(gone(existing))),
            (Outcome::Remove(_), None) => return Ok(Written::Done(None)),
        };
        let committed = self
            .client
            .commit(&place, expected.map_or(0, counter), change)
            .await
            .map_err(|status| self.client.failure(format!("cannot write {key}"), &status))?;
        match committed {
            Committed::Done(at) => {
                let mut object = left;
                object.metadata.revision = revision(at);
                Ok(Written::Done(Some(object)))
            }
            Committed::TooLate(found) => {
                let found = found.map(|found| self.layout.decode(key.kind, &found));
                Ok(Written::TooLate(found.transpose()?.map(Box::new)))
            }
        }
    }
}

/// An object as it is last. What the write that removes it would have changed as well is not kept, so that whoever wrote sees what watchers
/// see, whom etcd tells what was there before.
pub(crate) fn gone(mut object: Object) -> Object {
    object.metadata.finalizers.clear();
    object
}
