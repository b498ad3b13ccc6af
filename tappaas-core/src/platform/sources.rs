use bytes::Bytes;
use futures::stream::BoxStream;

use super::Platform;
use crate::{
    Digest, Error, Result,
    backend::{Content, Image, Reference, Repository},
    model::{ApplicationKey, Source},
};

impl Platform {
    /// Keeps an uploaded source archive as a blob, and returns the source that names it.
    ///
    /// # Errors
    /// `Invalid` if the bytes do not hash to `digest`.
    pub async fn upload(
        &self,
        key: &ApplicationKey,
        digest: &Digest,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<Source> {
        let repository = self.settings().repository(key);
        let content = Content::Blob(digest.clone());
        self.backends()
            .registry
            .push(&repository, &content, bytes)
            .await?;
        Ok(Source::Upload {
            repository,
            digest: digest.clone(),
        })
    }

    /// Finds out which image a reference such as `registry.example/app:1.2` or `app@sha256:…` means now.
    ///
    /// # Errors
    /// `NotFound` if the registry has none.
    pub async fn resolve_image(&self, reference: &str) -> Result<Source> {
        let (repository, wanted) = parse_reference(reference)?;
        let digest = self
            .backends()
            .registry
            .resolve(&repository, &wanted)
            .await?;
        let digest = digest
            .ok_or_else(|| Error::not_found(format!("no image `{reference}` in the registry")))?;
        Ok(Source::Image {
            reference: reference.to_owned(),
            image: Image { repository, digest },
        })
    }
}

fn parse_reference(reference: &str) -> Result<(Repository, Reference)> {
    if let Some((repository, digest)) = reference.split_once('@') {
        return Ok((repository.parse()?, Reference::Digest(digest.parse()?)));
    }
    // A `:` after the last `/` begins the tag; one before it belongs to the registry's port.
    let tag = reference
        .rfind(':')
        .filter(|colon| !reference[*colon..].contains('/'));
    match tag {
        Some(colon) => Ok((
            reference[..colon].parse()?,
            Reference::Tag(reference[colon + 1..].parse()?),
        )),
        None => Ok((reference.parse()?, Reference::Tag("latest".parse()?))),
    }
}
