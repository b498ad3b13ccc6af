//! The registry of a server whose instances run elsewhere.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tappaas_core::{
    Digest, Result,
    backend::{Content, Reference, Registry, Repository, Tag},
};

/// What was built here is in the embedded registry; whatever names its registry is in that one.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) own: Arc<dyn Registry>,
    pub(super) others: Arc<dyn Registry>,
}

impl Images {
    fn of(&self, repository: &Repository) -> &dyn Registry {
        match repository.registry() {
            None => &*self.own,
            Some(_) => &*self.others,
        }
    }
}

#[async_trait]
impl Registry for Images {
    async fn resolve(&self, from: &Repository, reference: &Reference) -> Result<Option<Digest>> {
        self.of(from).resolve(from, reference).await
    }

    async fn pull(
        &self,
        from: &Repository,
        content: &Content,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.of(from).pull(from, content).await
    }

    async fn push(
        &self,
        to: &Repository,
        content: &Content,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()> {
        self.of(to).push(to, content, bytes).await
    }

    async fn tag(&self, at: &Repository, digest: &Digest, tag: &Tag) -> Result<()> {
        self.of(at).tag(at, digest, tag).await
    }

    async fn list(&self, of: &Repository) -> Result<Vec<Tag>> {
        self.of(of).list(of).await
    }

    async fn delete(&self, from: &Repository, reference: &Reference) -> Result<()> {
        self.of(from).delete(from, reference).await
    }
}
