use bytes::Bytes;
use futures::stream::BoxStream;

use super::Platform;
use crate::{
    Digest, Name, Result,
    backend::{Content, ImageName},
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

    /// Finds out which image a tenant means now by a reference such as `registry.example/app:1.2` or `app@sha256:…`. The registry is asked
    /// for either.
    ///
    /// # Errors
    /// `NotFound` if the registry has none, or another tenant has it.
    pub async fn resolve_image(&self, tenant: &Name, reference: &str) -> Result<Source> {
        let name: ImageName = reference.parse()?;
        self.context.check_image(tenant, &name)?;
        let image = name.resolve(&*self.backends().registry).await?;
        Ok(Source::Image {
            reference: reference.to_owned(),
            image,
        })
    }
}
