use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Limits, Spec, Typed};
use crate::{Kind, Name};

/// The owner of projects: the unit of isolation and quota.
///
/// Projects and environments need none. One that is there says what holds for all that are its own.
pub type Tenant = Typed<TenantSpec>;

/// What a user wants of a tenant.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantSpec {
    /// The most that all its environments may be given together.
    #[serde(skip_serializing_if = "Limits::is_unlimited")]
    pub limits: Limits,
}

impl Spec for TenantSpec {
    const KIND: Kind = Kind::Tenant;
    type Status = AllotmentStatus;
}

/// A group of environments, such as the stages of one repository. Environments need none, as with [`Tenant`].
pub type Project = Typed<ProjectSpec>;

/// What a user wants of a project.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProjectSpec {
    /// The most that all its environments may be given together.
    #[serde(skip_serializing_if = "Limits::is_unlimited")]
    pub limits: Limits,
    /// The domain pool that its applications get their hosts from; without one they are under the platform's base domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_pool: Option<Name>,
}

impl Spec for ProjectSpec {
    const KIND: Kind = Kind::Project;
    type Status = AllotmentStatus;
}

/// What controllers found about a tenant or a project.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AllotmentStatus {
    /// What its environments were given together.
    #[serde(skip_serializing_if = "Limits::is_unlimited")]
    pub allotted: Limits,
    /// What is known, for programs that wait for it.
    pub conditions: Vec<Condition>,
}
