use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::INSTANCES_MAX;

/// Between which bounds the instances of a process are as many as their work takes.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Autoscale {
    /// The fewest instances, at least 1.
    pub min: u32,
    /// The most instances.
    pub max: u32,
    /// How much of its CPU limit an instance uses on average while they are neither too few nor too many: 1 to 100 percent.
    pub cpu_percent: u32,
}

impl Autoscale {
    /// What comes nearest to it of all that makes sense: whatever somebody wrote into an object.
    pub(crate) fn bounded(self) -> Self {
        let min = self.min.clamp(1, INSTANCES_MAX);
        Self {
            min,
            max: self.max.clamp(min, INSTANCES_MAX),
            cpu_percent: self.cpu_percent.clamp(1, 100),
        }
    }
}
