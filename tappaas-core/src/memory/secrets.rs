use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::{changes::Changes, lock::lock};
use crate::{
    Error, Result,
    backend::{self, Secret, SecretCapabilities, SecretPath, SecretPrecondition, SecretVersion},
};

/// Secrets in memory, with every version. Clones are the same secrets.
#[derive(Clone, Default)]
pub struct SecretStore {
    kept: Arc<Mutex<BTreeMap<SecretPath, Vec<Secret>>>>,
    changes: Arc<Changes<SecretPath>>,
}

impl SecretStore {
    /// Starts without any secret.
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for SecretStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl backend::SecretStore for SecretStore {
    fn capabilities(&self) -> SecretCapabilities {
        SecretCapabilities { versioned: true }
    }

    async fn get(&self, path: &SecretPath, version: Option<u64>) -> Result<Option<SecretVersion>> {
        let kept = lock(&self.kept);
        let Some(versions) = kept.get(path) else {
            return Ok(None);
        };
        let newest = versions.len() as u64;
        let version = version.unwrap_or(newest);
        let index = version
            .checked_sub(1)
            .and_then(|index| usize::try_from(index).ok());
        let value = index.and_then(|index| versions.get(index));
        Ok(value.map(|value| SecretVersion {
            version,
            value: value.clone(),
        }))
    }

    async fn put(
        &self,
        path: &SecretPath,
        value: &Secret,
        precondition: SecretPrecondition,
    ) -> Result<u64> {
        let mut kept = lock(&self.kept);
        let newest = kept.get(path).map_or(0, |versions| versions.len() as u64);
        match precondition {
            SecretPrecondition::Absent if newest > 0 => {
                return Err(Error::already_exists(format!(
                    "secret {path} exists already"
                )));
            }
            SecretPrecondition::Version(expected) if newest != expected => {
                return Err(Error::conflict(format!(
                    "secret {path} was changed by somebody else"
                )));
            }
            SecretPrecondition::Any
            | SecretPrecondition::Absent
            | SecretPrecondition::Version(_) => {}
        }
        kept.entry(path.clone()).or_default().push(value.clone());
        self.changes.tell(path);
        Ok(newest + 1)
    }

    async fn delete(&self, path: &SecretPath) -> Result<()> {
        if lock(&self.kept).remove(path).is_some() {
            self.changes.tell(path);
        }
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<SecretPath>> {
        let kept = lock(&self.kept);
        let below = kept.keys().filter(|path| path.as_str().starts_with(prefix));
        Ok(below.cloned().collect())
    }

    async fn watch(&self) -> Result<BoxStream<'static, SecretPath>> {
        Ok(self.changes.watch())
    }
}
