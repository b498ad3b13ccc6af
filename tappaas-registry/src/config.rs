use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::layout::MANIFEST_BYTES_MAX;

/// Where the embedded registry keeps its content, and the bounds of everything it accepts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The directory that holds everything; created if missing. One process at a time.
    pub path: PathBuf,
    /// The bounds.
    #[serde(default)]
    pub limits: Limits,
}

impl Config {
    /// A registry in `path` with the default limits.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            limits: Limits::default(),
        }
    }
}

/// The bounds of what the embedded registry accepts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// The largest blob, in bytes. Default: 16 GiB.
    pub blob_bytes_max: u64,
    /// The largest manifest, in bytes. Default: 4 MiB, which clients may count on.
    pub manifest_bytes_max: u64,
    /// How many uploads may be open at once. Default: 128.
    pub uploads_max: usize,
    /// An upload that receives nothing for so many seconds is dropped. Default: 900.
    pub upload_idle_seconds: u64,
    /// A request body that pauses for so many seconds is given up. Default: 60.
    pub body_pause_seconds: u64,
    /// The most tags in one answer; more are paged. Default: 1000.
    pub page_max: usize,
    /// How many connections the server keeps at once; further ones wait. Default: 256.
    pub connections_max: usize,
}

impl Limits {
    pub(crate) fn upload_idle(&self) -> Duration {
        Duration::from_secs(self.upload_idle_seconds)
    }

    pub(crate) fn body_pause(&self) -> Duration {
        Duration::from_secs(self.body_pause_seconds)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blob_bytes_max: 16 << 30,
            manifest_bytes_max: MANIFEST_BYTES_MAX,
            uploads_max: 128,
            upload_idle_seconds: 900,
            body_pause_seconds: 60,
            page_max: 1000,
            connections_max: 256,
        }
    }
}
