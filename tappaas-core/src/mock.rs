//! A [`mockall`] mock of every trait, for embedders' own unit tests.
//!
//! ```
//! use tappaas_core::{backend::Scheduler, mock::MockScheduler};
//!
//! let mut scheduler = MockScheduler::new();
//! scheduler.expect_nodes().returning(|| Ok(Vec::new()));
//! let scheduler: std::sync::Arc<dyn Scheduler> = std::sync::Arc::new(scheduler);
//! ```

use async_trait::async_trait;

use crate::{Batch, Result, Row};

pub use crate::{
    backend::{
        MockBuilder, MockIngressProvider, MockRegistry, MockScheduler, MockSecretStore, MockVolumes,
    },
    store::MockStore,
    time::{MockClock, MockIds},
};

mockall::mock! {
    #[derive(Debug)]
    /// Mocks [`Durable`](crate::Durable). Its `scan` gets `after` as an owned key.
    pub Durable {
        /// See [`Durable::get`](crate::Durable::get).
        pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>>;

        /// See [`Durable::scan`](crate::Durable::scan).
        pub fn scan(
            &self,
            table: &str,
            prefix: &[u8],
            after: Option<Vec<u8>>,
            limit: usize,
        ) -> Result<Vec<Row>>;

        /// See [`Durable::commit`](crate::Durable::commit).
        pub fn commit(&self, batch: Batch) -> Result<()>;
    }
}

// By hand, because `mockall` does not take a reference inside an option.
#[async_trait]
impl crate::Durable for MockDurable {
    async fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Self::get(self, table, key)
    }

    async fn scan(
        &self,
        table: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        Self::scan(self, table, prefix, after.map(<[u8]>::to_vec), limit)
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        Self::commit(self, batch)
    }
}
