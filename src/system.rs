use std::{fmt::Write as _, time::Duration};

use async_trait::async_trait;
use tappaas_core::{Clock, Ids, Timestamp};

/// What leads all that share a store, be they servers or replicas of an operator.
#[cfg(any(
    feature = "operator",
    feature = "cluster",
    all(feature = "machine", feature = "etcd")
))]
pub(crate) const LEASE: &str = "tappaas";

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that is injected everywhere else"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Identifiers of 20 hexadecimal digits, 80 bits from the kernel's random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    fn unique(&self) -> String {
        let mut bytes = [0_u8; 10];
        getrandom::fill(&mut bytes).expect("Linux has random numbers since 3.17");
        bytes
            .iter()
            .fold(String::with_capacity(20), |mut id, byte| {
                let _ = write!(id, "{byte:02x}");
                id
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_short_and_differ() {
        let (one, other) = (RandomIds.unique(), RandomIds.unique());
        assert_eq!(one.len(), 20);
        assert_ne!(one, other);
    }
}
