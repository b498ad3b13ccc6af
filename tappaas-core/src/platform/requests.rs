use std::collections::BTreeMap;

use crate::{
    Name,
    manifest::Resolved,
    model::{ApplicationContent, Autoscale},
};

/// What a user deploys.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// The manifest resolved for the environment, and the source. Its `config` is ignored: a deployment never changes what was set.
    pub content: ApplicationContent,
    /// The manifest's counts. They seed an application that is new to a process; later ones are only compared.
    pub scale: BTreeMap<Name, u32>,
    /// The processes whose instances are as many as their work takes. Takes the place of what was said before.
    pub autoscale: BTreeMap<Name, Autoscale>,
}

impl From<Resolved> for Deployment {
    fn from(resolved: Resolved) -> Self {
        Self {
            content: resolved.content,
            scale: resolved.scale,
            autoscale: resolved.autoscale,
        }
    }
}

/// What a request came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accepted {
    /// The operation to wait for; `None`: nothing changed, and nothing has to be done.
    pub operation: Option<String>,
    /// The application's generation now.
    pub generation: u64,
    /// What the user should know, such as counts in the manifest that differ from those set.
    pub notes: Vec<String>,
}
