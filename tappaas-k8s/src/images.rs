//! The builder of a cluster that has none, and the registry of one that asks none.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use tappaas_core::{
    Digest, Error, ErrorKind, Result,
    backend::{
        BuildId, BuildOutcome, BuildRequest, Builder, BuilderCapabilities, Content, LogLine,
        Reference, Registry, Repository, Tag,
    },
    model::Source,
};

/// Takes images as they are, from registries that the cluster's nodes can pull from. It builds nothing and moves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct GivenImages;

#[async_trait]
impl Builder for GivenImages {
    fn capabilities(&self) -> BuilderCapabilities {
        BuilderCapabilities::default()
    }

    async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome> {
        let Source::Image { reference, image } = &request.source else {
            return Err(Error::unsupported(
                "source code is not built here: give an image",
            ));
        };
        if image.repository.registry().is_none() {
            // Whose repository it is, is each node's own matter.
            return Err(Error::invalid(format!(
                "image `{reference}` names no registry: write it out, such as docker.io/library/{reference}"
            )));
        }
        Ok(BuildOutcome {
            image: image.clone(),
            processes: BTreeMap::new(),
            detected: format!("image {reference}"),
            stack: None,
            cached: true,
        })
    }

    async fn list(&self) -> Result<Vec<BuildId>> {
        Ok(Vec::new())
    }

    async fn cancel(&self, _: &BuildId) -> Result<()> {
        Ok(())
    }

    async fn logs(&self, _: &BuildId, _: bool) -> Result<BoxStream<'static, Result<LogLine>>> {
        Ok(stream::empty().boxed())
    }
}

/// Asks no registry anything: images are named by their digest.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRegistry;

#[async_trait]
impl Registry for NoRegistry {
    async fn resolve(&self, repository: &Repository, _: &Reference) -> Result<Option<Digest>> {
        Err(none(repository))
    }

    async fn pull(
        &self,
        repository: &Repository,
        _: &Content,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        Err(none(repository))
    }

    async fn push(
        &self,
        repository: &Repository,
        _: &Content,
        _: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()> {
        Err(none(repository))
    }

    async fn tag(&self, repository: &Repository, _: &Digest, _: &Tag) -> Result<()> {
        Err(none(repository))
    }

    async fn list(&self, repository: &Repository) -> Result<Vec<Tag>> {
        Err(none(repository))
    }

    async fn delete(&self, repository: &Repository, _: &Reference) -> Result<()> {
        Err(none(repository))
    }
}

fn none(repository: &Repository) -> Error {
    Error::new(
        ErrorKind::Denied,
        format!("no registry is asked about `{repository}` here: name the image by its digest"),
    )
}
