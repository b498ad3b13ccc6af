use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Spec, Typed};
use crate::{Error, Kind, Result};

/// A stage of a project.
pub type Environment = Typed<EnvironmentSpec>;

/// What a user wants of an environment.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvironmentSpec {
    /// The most that all applications in it may take together.
    #[serde(skip_serializing_if = "Limits::is_unlimited")]
    pub limits: Limits,
}

impl Spec for EnvironmentSpec {
    const KIND: Kind = Kind::Environment;
    type Status = EnvironmentStatus;
}

/// The most that all applications of an environment may take together. What is not given has no limit.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// CPU of all instances, in thousandths of a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Memory of all instances, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Instances, those that are stopping and those that a rollout adds included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// Sizes of all volumes, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<u64>,
}

impl Limits {
    /// Says whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// Each with its field's name, in one order.
    pub(crate) fn fields(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("cpuMillis", self.cpu_millis),
            ("memory", self.memory),
            ("instances", self.instances.map(u64::from)),
            ("storage", self.storage),
        ]
    }

    /// Those of two environments together. What one of them is not limited in counts for nothing.
    #[must_use]
    pub(crate) fn plus(&self, other: &Self) -> Self {
        fn sum<T>(one: Option<T>, other: Option<T>, add: fn(T, T) -> T) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(add(one, other)),
                (one, other) => one.or(other),
            }
        }
        Self {
            cpu_millis: sum(self.cpu_millis, other.cpu_millis, u64::saturating_add),
            memory: sum(self.memory, other.memory, u64::saturating_add),
            instances: sum(self.instances, other.instances, u32::saturating_add),
            storage: sum(self.storage, other.storage, u64::saturating_add),
        }
    }

    /// What one that was given these limits has while it is to be given `wanted`: of each the larger, until what is less is kept to.
    #[must_use]
    pub(crate) fn or_more(&self, wanted: &Self) -> Self {
        fn larger<T: Ord>(known: Option<T>, wanted: Option<T>) -> Option<T> {
            match (known, wanted) {
                (Some(known), Some(wanted)) => Some(known.max(wanted)),
                (known, wanted) => known.or(wanted),
            }
        }
        Self {
            cpu_millis: larger(self.cpu_millis, wanted.cpu_millis),
            memory: larger(self.memory, wanted.memory),
            instances: larger(self.instances, wanted.instances),
            storage: larger(self.storage, wanted.storage),
        }
    }

    /// Refuses every limit, for schedulers that keep none.
    ///
    /// # Errors
    /// `Unsupported` unless nothing is limited.
    pub fn refuse(&self) -> Result<()> {
        match self.is_unlimited() {
            true => Ok(()),
            false => Err(Error::unsupported(Self::UNSUPPORTED)),
        }
    }

    pub(crate) const UNSUPPORTED: &str =
        "this platform's scheduler cannot keep limits: take `limits` out of the environment";
}

/// What controllers found about an environment.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvironmentStatus {
    /// The limits that it was given: what counts against those of its tenant and its project.
    #[serde(skip_serializing_if = "Limits::is_unlimited")]
    pub limits: Limits,
    /// The namespace that it has where it runs, if there are such, as on Kubernetes.
    pub namespace: Option<String>,
    /// What is known, for programs that wait for it.
    pub conditions: Vec<Condition>,
}
