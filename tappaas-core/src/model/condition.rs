use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// One thing that is known about an object, in the form of Kubernetes' API conventions ("Typical status properties").
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// Whether it is so.
    pub status: Truth,
    /// Why, in one word for programs, such as `NoBuilder`.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// The generation that this is about.
    pub observed_generation: u64,
    /// Since when the status is this.
    pub last_transition_time: Timestamp,
}

/// What a [`Condition`] is about.
#[derive(
    Clone, Copy, Debug, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub enum ConditionKind {
    /// Of an application with autoscaled processes: they have as many instances as their work takes.
    Autoscaled,
    /// Of an application: there is an image of what is wanted.
    Built,
    /// What is wanted is there, and works.
    Ready,
}

/// Whether something is so.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum Truth {
    /// It is.
    True,
    /// It is not, and will not be by itself.
    False,
    /// Not yet, or nobody knows.
    Unknown,
}

/// Whether something is so, why in one word for programs, and why for people.
pub(crate) type Verdict = (Truth, &'static str, String);

impl Condition {
    /// What is known of an object of this generation at `now`, given what was known before.
    pub(crate) fn of(
        kind: ConditionKind,
        (status, reason, message): Verdict,
        generation: u64,
        known: &[Self],
        now: Timestamp,
    ) -> Self {
        let condition = Self {
            kind,
            status,
            reason: reason.to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: now,
        };
        condition.since(known, now)
    }

    /// The condition at `now`, given those known before: as long as the status stays, so does its time.
    #[must_use]
    pub fn since(mut self, known: &[Self], now: Timestamp) -> Self {
        let before = known.iter().find(|known| known.kind == self.kind);
        let same = before.filter(|before| before.status == self.status);
        self.last_transition_time = same.map_or(now, |before| before.last_transition_time);
        self
    }
}
