use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Host, Spec, Typed};
use crate::{Kind, Name};

/// Domains that applications get hosts under.
///
/// Under a domain of a pool a tenant has what is under its own name, `<tenant>.<domain>`; under those of a pool that is its own alone it
/// has everything. Nobody else gets a host there.
pub type DomainPool = Typed<DomainPoolSpec>;

/// What a user wants of a domain pool.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainPoolSpec {
    /// Its domains, the one first that hosts are given out under. At least one, at most 50, of at most 80 characters each.
    pub bases: Vec<Host>,
    /// The tenants that it is for; if there are none it is for all. At most 500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Name>,
}

impl Spec for DomainPoolSpec {
    const KIND: Kind = Kind::DomainPool;
    type Status = DomainPoolStatus;
}

impl DomainPoolSpec {
    /// Says whether a tenant may use it.
    pub fn is_for(&self, tenant: &Name) -> bool {
        self.tenants.is_empty() || self.tenants.contains(tenant)
    }

    /// Says whether it is for one tenant and nobody else.
    pub fn is_own(&self, tenant: &Name) -> bool {
        self.tenants.as_slice() == [tenant.clone()]
    }
}

/// What controllers found about a domain pool.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DomainPoolStatus {
    /// What is known, for programs that wait for it.
    pub conditions: Vec<Condition>,
}
