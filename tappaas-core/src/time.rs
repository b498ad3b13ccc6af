use std::{fmt, time::Duration};

use async_trait::async_trait;
pub use jiff::Timestamp;

/// Tells the time and waits for it. Injected, so that tests own it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall-clock time.
    fn now(&self) -> Timestamp;

    /// Returns once `duration` has passed.
    async fn sleep(&self, duration: Duration);
}

/// Makes unique identifiers. Injected, so that tests can repeat a run.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Ids: fmt::Debug + Send + Sync + 'static {
    /// Returns an identifier never returned before: 1 to 36 characters of `[a-z0-9-]`.
    fn unique(&self) -> String;
}
