use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

pub(crate) fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| format!("{} is not valid UTF-8", path.display()).into())
}

/// A folder that goes when the step ends, however it ends.
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
}

impl Scratch {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let name = format!("tappaas-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)
            .map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        Ok(Self { path })
    }

    /// Removes the folder; a failure means that something still holds on to it.
    pub(crate) fn remove(self) -> Result {
        fs::remove_dir_all(&self.path)
            .map_err(|error| format!("cannot remove {}: {error}", self.path.display()).into())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // After a failed step the folder may still be in use; the step's own error says more.
        let _ = fs::remove_dir_all(&self.path);
    }
}
