use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::{Context, drive::Reconcile, wakes};
use crate::{
    Chain, Error, ErrorKind, Key, Kind, Result, Scope,
    backend::{BuildId, BuildOutcome, BuildRequest},
    model::{ApplicationKey, Build, BuildObjectSpec, BuildPhase},
};

/// Runs the builds that are asked for, each until it ended.
#[derive(Debug)]
pub(super) struct BuildController {
    pub(super) context: Arc<Context>,
}

#[async_trait]
impl Reconcile for BuildController {
    fn name(&self) -> &'static str {
        "build"
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>> {
        let Some(build) = self.read(key)? else {
            return Ok(None);
        };
        if build.status.phase.ended() {
            return Ok(None);
        }
        let id = BuildId(build.metadata.uid.clone());
        if build.spec.cancelled {
            self.context.backends.builder.cancel(&id).await?;
            return self.record(build, Err(Error::conflict("cancelled"))).await;
        }
        let build = self.start(build).await?;
        let outcome = tokio::select! {
            outcome = self.build(&id, key, &build.spec) => outcome,
            () = self.cancelled(key) => {
                self.context.backends.builder.cancel(&id).await?;
                Err(Error::conflict("cancelled"))
            }
        };
        // The object may have changed in the meantime, as by a cancellation.
        match self.read(key)? {
            Some(build) => self.record(build, outcome).await,
            None => Ok(None),
        }
    }

    async fn wakes(&self) -> Result<BoxStream<'static, Key>> {
        Ok(wakes::objects(
            &self.context.client,
            Kind::Build,
            |_, _, key| vec![key.clone()],
        ))
    }

    fn all(&self) -> Vec<Key> {
        self.context.client.keys(Kind::Build, &Scope::cluster())
    }
}

impl BuildController {
    fn read(&self, key: &Key) -> Result<Option<Build>> {
        self.context
            .client
            .get::<BuildObjectSpec>(&key.scope, &key.name)
    }

    async fn build(&self, id: &BuildId, key: &Key, spec: &BuildObjectSpec) -> Result<BuildOutcome> {
        let application = ApplicationKey::new(&key.scope, spec.application.as_str())?;
        let request = BuildRequest {
            id: id.clone(),
            source: self
                .context
                .source(&application.tenant, &spec.source)
                .await?,
            spec: spec.build.clone(),
            repository: spec.repository.clone(),
        };
        self.context.backends.builder.build(&request).await
    }

    async fn start(&self, mut build: Build) -> Result<Build> {
        if build.status.phase == BuildPhase::Queued {
            build.status.phase = BuildPhase::Running;
            build.status.started = Some(self.context.clock.now());
            build = self.context.client.update_status(&build).await?;
        }
        Ok(build)
    }

    async fn record(
        &self,
        mut build: Build,
        outcome: Result<BuildOutcome>,
    ) -> Result<Option<Duration>> {
        match outcome {
            Ok(outcome) => {
                build.status.phase = BuildPhase::Succeeded;
                build.status.message.clear();
                build.status.outcome = Some(outcome);
            }
            Err(error) if error.kind().retryable() => {
                // Told, since it may last; once, since telling it wakes this controller again.
                let message = Chain(&error).to_string();
                if build.status.message != message {
                    build.status.message = message;
                    self.context.client.update_status(&build).await?;
                }
                return Err(error);
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                build.status.phase = BuildPhase::Cancelled;
                build.status.message = Chain(&error).to_string();
            }
            Err(error) => {
                build.status.phase = BuildPhase::Failed;
                build.status.message = Chain(&error).to_string();
            }
        }
        build.status.ended = Some(self.context.clock.now());
        self.context.client.update_status(&build).await?;
        Ok(None)
    }

    /// Returns once nobody wants the build any more.
    async fn cancelled(&self, key: &Key) {
        loop {
            match self.read(key) {
                Ok(Some(build)) if !build.spec.cancelled => {}
                _ => return,
            }
            self.context.clock.sleep(Duration::from_millis(250)).await;
        }
    }
}
