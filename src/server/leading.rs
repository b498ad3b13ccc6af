//! Which of several servers acts.

#[cfg(feature = "cluster")]
use std::sync::Arc;

#[cfg(feature = "cluster")]
use tappaas_core::Clock;
use tappaas_core::Result;

#[cfg(any(feature = "etcd", feature = "cluster"))]
use crate::system::LEASE;

/// How a server comes to act.
#[derive(Debug)]
pub(super) enum Leading {
    /// No other one has its store.
    Alone,
    #[cfg(feature = "etcd")]
    Etcd(Box<tappaas_etcd::Candidate>),
    #[cfg(feature = "cluster")]
    Kubernetes(Box<tappaas_k8s::Candidate>),
}

impl Leading {
    #[cfg(feature = "etcd")]
    pub(super) fn etcd(keyspace: &tappaas_etcd::Keyspace, identity: String) -> Self {
        let candidate = tappaas_etcd::Candidate::new(keyspace, LEASE, identity);
        Self::Etcd(Box::new(candidate))
    }

    #[cfg(feature = "cluster")]
    pub(super) fn kubernetes(
        client: tappaas_k8s::Client,
        namespace: &str,
        identity: String,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let candidate = tappaas_k8s::Candidate::new(client, namespace, LEASE, identity, clock);
        Self::Kubernetes(Box::new(candidate))
    }

    /// Runs `work` whenever this server leads, and drops it when it does not any more. Returns what `work` does.
    pub(super) async fn lead<W: Future>(&mut self, work: impl Fn() -> W) -> W::Output {
        match self {
            Self::Alone => work().await,
            #[cfg(feature = "etcd")]
            Self::Etcd(candidate) => candidate.lead(work).await,
            #[cfg(feature = "cluster")]
            Self::Kubernetes(candidate) => candidate.lead(work).await,
        }
    }

    /// Lets another one lead at once.
    pub(super) async fn release(&mut self) -> Result<()> {
        match self {
            Self::Alone => Ok(()),
            #[cfg(feature = "etcd")]
            Self::Etcd(candidate) => candidate.release().await,
            #[cfg(feature = "cluster")]
            Self::Kubernetes(candidate) => candidate.release().await,
        }
    }
}
