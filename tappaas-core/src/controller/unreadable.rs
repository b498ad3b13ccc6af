//! Objects that stores take and this version cannot read: whoever wrote one looks for the reason at the object itself.

use serde_json::{Map, Value};

use super::Context;
use crate::{
    Chain, Error, Key, Object, Precondition, Result,
    model::{Condition, ConditionKind, Spec, Truth},
};

/// The field of every status that has conditions.
const CONDITIONS: &str = "conditions";

impl Context {
    /// Says of an object whose spec cannot be read that it is not ready, and why. Returns whether that is so.
    ///
    /// All else in its status stays: what ran before goes on.
    pub(super) async fn tell_unreadable<S: Spec>(&self, key: &Key) -> Result<bool> {
        let Err(error) = self.client.get::<S>(&key.scope, &key.name) else {
            return Ok(false);
        };
        tracing::warn!(%key, error = %Chain(&error), "an object cannot be read");
        let Some(mut object) = self.store.get(key).await? else {
            return Ok(true);
        };
        if let Some(status) = self.unreadable_status(&object, &error) {
            object.status = status;
            let unchanged = Precondition::Revision(object.metadata.revision);
            self.store.put_status(object, unchanged).await?;
        }
        Ok(true)
    }

    /// The status that says so; `None` if it is there, or if the status is what cannot be read.
    fn unreadable_status(&self, object: &Object, error: &Error) -> Option<Value> {
        let mut status = match &object.status {
            Value::Null => Map::new(),
            Value::Object(status) => status.clone(),
            _ => return None,
        };
        let known = status.get(CONDITIONS).cloned().unwrap_or_default();
        let known: Option<Vec<Condition>> = serde_json::from_value(known).ok()?;
        let mut conditions = known.unwrap_or_default();
        let why = (Truth::False, "Invalid", Chain(error).to_string());
        let (generation, now) = (object.metadata.generation, self.clock.now());
        let ready = Condition::of(ConditionKind::Ready, why, generation, &conditions, now);
        if conditions.contains(&ready) {
            return None;
        }
        conditions.retain(|known| known.kind != ConditionKind::Ready);
        conditions.push(ready);
        let conditions = serde_json::to_value(conditions).ok()?;
        status.insert(CONDITIONS.to_owned(), conditions);
        Some(Value::Object(status))
    }
}
