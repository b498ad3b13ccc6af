use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use tappaas_core::{
    Digest, Result,
    backend::{BuildId, BuildOutcome, BuildRequest, Builder, Content, Image, Registry},
    model::{BuildSpec, Source},
};

use super::{BuilderFixture, Course, Project};
use crate::conformance::{Failure, Verdict, macros::ensure, until};

/// A builder under test.
#[derive(Debug)]
pub struct Bench<'a> {
    fixture: &'a dyn BuilderFixture,
    /// The builder.
    pub builder: Arc<dyn Builder>,
    registry: Arc<dyn Registry>,
}

impl<'a> Bench<'a> {
    /// Prepares to build.
    pub fn new(fixture: &'a dyn BuilderFixture) -> Self {
        Self {
            fixture,
            builder: fixture.builder(),
            registry: fixture.registry(),
        }
    }

    /// A request to build a project that takes so long.
    pub async fn good(
        &self,
        id: &str,
        name: &str,
        takes: Duration,
    ) -> Result<BuildRequest, Failure> {
        let request = self.request(id, name, Course::Good(takes)).await?;
        request.ok_or_else(|| "every builder builds something good".into())
    }

    /// A request to build a project; `None` if the builder has none such.
    pub async fn request(
        &self,
        id: &str,
        name: &str,
        course: Course,
    ) -> Result<Option<BuildRequest>, Failure> {
        let project = Project {
            name: name.to_owned(),
            course,
        };
        let source = self.fixture.source(&project).await?;
        Ok(source.map(|(source, spec)| request(id, source, spec)))
    }

    /// Builds.
    ///
    /// # Errors
    /// As the builder says.
    pub async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome> {
        self.builder.build(request).await
    }

    /// Waits until these requests, and no others, are queued or running.
    pub async fn running(&self, ids: &[&str]) -> Verdict {
        until(&format!("{ids:?} are what runs"), async || {
            let mut listed = self.builder.list().await?;
            listed.sort();
            let same = listed
                .iter()
                .map(|id| id.0.as_str())
                .eq(ids.iter().copied());
            Ok(same.then_some(()))
        })
        .await
    }

    /// The lines that a request's build wrote so far.
    pub async fn lines(&self, id: &BuildId) -> Result<Vec<String>, Failure> {
        let lines = self.builder.logs(id, false).await?;
        let lines: Vec<_> = lines.map_ok(|line| line.text).collect().await;
        Ok(lines.into_iter().collect::<Result<_>>()?)
    }

    /// Reads every content of an image and verifies it.
    pub async fn is_whole(&self, image: &Image) -> Verdict {
        let manifest = self
            .pull(image, Content::Manifest(image.digest.clone()))
            .await?;
        let manifest: Value = serde_json::from_slice(&manifest)?;
        let layers = manifest["layers"]
            .as_array()
            .ok_or("an image manifest has layers")?;
        for named in layers.iter().chain([&manifest["config"]]) {
            let digest = named["digest"]
                .as_str()
                .ok_or("a descriptor has a digest")?;
            self.pull(image, Content::Blob(digest.parse()?)).await?;
        }
        Ok(())
    }

    async fn pull(&self, image: &Image, content: Content) -> Result<Vec<u8>, Failure> {
        let chunks = self.registry.pull(&image.repository, &content).await?;
        let bytes = chunks.try_collect::<Vec<_>>().await?.concat();
        ensure!(
            Digest::of(&bytes) == *content.digest(),
            "{content:?} is damaged"
        );
        Ok(bytes)
    }

    /// Takes the manifest of an image away.
    pub async fn discard(&self, image: &Image) -> Verdict {
        let digest = tappaas_core::backend::Reference::Digest(image.digest.clone());
        Ok(self.registry.delete(&image.repository, &digest).await?)
    }
}

fn request(id: &str, source: Source, spec: BuildSpec) -> BuildRequest {
    BuildRequest {
        id: BuildId(id.to_owned()),
        source,
        spec,
        repository: "conformance/app".parse().expect("it is a repository"),
    }
}
