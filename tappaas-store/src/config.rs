use std::path::PathBuf;

/// Where a store keeps its data, and how much of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store's own directory. Created if it is not there, readable by its owner alone.
    pub directory: PathBuf,
    /// What the store may use.
    pub limits: Limits,
}

impl Config {
    /// Keeps a store in this directory, with the default limits.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            limits: Limits::default(),
        }
    }
}

/// What a store may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many changes of each kind are kept for watchers. One that is further behind lists again.
    pub history_changes: u64,
    /// How many bytes the kept changes of each kind may have.
    pub history_bytes: u64,
    /// How many bytes of the file are kept in memory.
    pub cache_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            history_changes: 10_000,
            history_bytes: 32 << 20,
            cache_bytes: 16 << 20,
        }
    }
}
