use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tappaas_core::{
    Clock, Durable, Error, Result,
    backend::{self, BuildId, BuildOutcome, BuildRequest, BuilderCapabilities, LogLine, Registry},
};

use super::{BuilderConfig, log, site::Site};
use crate::scheduler::Confines;

/// The builder of one machine. Dropping it ends what it runs; the next one on the same folder begins that again.
#[derive(Debug)]
pub struct Builder {
    site: Arc<Site>,
}

/// What a [`Builder`] works with.
#[derive(Clone, Debug)]
pub struct BuilderParts {
    /// Has the uploaded sources, and gets the images.
    pub registry: Arc<dyn Registry>,
    /// Keeps the queue, and what finished builds came to.
    pub durable: Arc<dyn Durable>,
    /// Tells the time of log lines.
    pub clock: Arc<dyn Clock>,
    /// The program that calls [`helper_main`](crate::helper_main) first thing.
    pub helper: PathBuf,
    /// How the commands of builds are confined.
    pub confines: Confines,
}

impl Builder {
    /// Opens the builder whose folder the configuration names, and begins anew what waited or ran when the last one ended.
    ///
    /// # Errors
    /// `Invalid` for a configuration that cannot be meant; whatever the machine says if the folder or the stack cannot be prepared.
    pub async fn open(config: BuilderConfig, parts: &BuilderParts) -> Result<Self> {
        let site = Arc::new(Site::new(config, parts)?);
        site.sandbox.clean_up().await?;
        site.look().await?;
        let builder = Self { site };
        builder.site.resume().await?;
        Ok(builder)
    }

    /// Ends what runs, and returns once nothing of it is left on the machine. The next builder on the same folder begins it again.
    pub async fn close(&self) {
        for run in self.site.interrupt() {
            run.ended().await;
        }
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.site.interrupt();
    }
}

#[async_trait]
impl backend::Builder for Builder {
    fn capabilities(&self) -> BuilderCapabilities {
        let stack = self.site.lock().stack.clone();
        // Without a stack at run time, too, it is this machine's tools that build.
        let named = self.site.stacks().iter();
        let stacks = stack.into_iter().flat_map(|stack| {
            let stacks = named.clone();
            stacks.map(move |name| ((*name).to_owned(), stack.fingerprint.clone()))
        });
        BuilderCapabilities {
            stacks: BTreeMap::from_iter(stacks),
            sources: true,
            host_stack: !self.site.config.elsewhere,
        }
    }

    async fn build(&self, request: &BuildRequest) -> Result<BuildOutcome> {
        self.site.build(&self.site.meant(request)).await
    }

    async fn list(&self) -> Result<Vec<BuildId>> {
        let runs: Vec<_> = self.site.lock().running.values().cloned().collect();
        let mut ids: Vec<_> = runs.iter().flat_map(|run| run.attached()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    async fn cancel(&self, id: &BuildId) -> Result<()> {
        self.site.cancel(id).await
    }

    async fn logs(
        &self,
        id: &BuildId,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        let file = self.site.log_file(id);
        if !file.exists() {
            return Err(Error::not_found(format!("there is no log of a build {id}")));
        }
        let runs: Vec<_> = self.site.lock().running.values().cloned().collect();
        let writing = runs
            .iter()
            .find(|run| run.request.id == *id || run.attached().contains(id));
        log::read(
            &file,
            writing.filter(|_| follow).map(|run| run.log.progress()),
        )
    }
}
