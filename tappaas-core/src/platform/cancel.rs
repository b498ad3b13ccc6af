use super::Platform;
use crate::{
    Error, ErrorKind, Metadata, Result, Scope,
    controller::application::origin,
    model::{
        Application, ApplicationKey, ApplicationSpec, Operation, OperationState, ReleasePhase,
        Typed,
    },
};

/// How many reports on an operation or its application a cancellation waits out.
const REPORTS_MAX: usize = 16;

impl Platform {
    /// Ends an operation: the application goes back to what it ran before. Where no release was ever healthy, it gets back the content
    /// that it had before the operation, and an application that the operation created is deleted.
    ///
    /// # Errors
    /// `NotFound` without the operation; `Conflict` if it has ended, cannot be cancelled, or its release became healthy meanwhile.
    pub async fn cancel(&self, scope: &Scope, operation: &str) -> Result<()> {
        let found = self.operation(scope, operation)?;
        refuse_ended(&found)?;
        if found.spec.origin.is_none() {
            return Err(Error::conflict(
                "only what makes a release can be cancelled",
            ));
        }
        // Marked first: a controller that sees what comes next knows then that it is a cancellation.
        let marked = self.mark(scope, operation).await?;
        refuse_ended(&marked)?;
        self.undo(&marked).await?;
        self.record_cancelled(scope, operation).await
    }

    async fn mark(&self, scope: &Scope, operation: &str) -> Result<Operation> {
        let mark = |operation: &mut Operation| {
            operation.spec.cancelled = true;
            Ok(())
        };
        self.client().modify(scope, operation, mark).await
    }

    /// Makes the application want what it had before an operation, however often a controller reports on it meanwhile.
    async fn undo(&self, operation: &Operation) -> Result<()> {
        let scope = operation.metadata.scope();
        let key = ApplicationKey::new(&scope, operation.spec.application.as_str())?;
        for _ in 0..REPORTS_MAX {
            // Changed only if it is still as it was read: what is accepted meanwhile is left alone.
            let Some(stored) = self.context.store.get(&key.object()).await? else {
                return Ok(());
            };
            let application = Typed::<ApplicationSpec>::from_object(&stored)?;
            let done = match self.before(&key, operation, application).await? {
                Before::Same => return Ok(()),
                Before::Nothing(application) => self.client().delete_unchanged(&*application).await,
                Before::Content(application) => self.client().update(&*application).await.map(drop),
            };
            match done {
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                }
                other => return other,
            }
        }
        Err(too_fast(&operation.metadata.name))
    }

    /// What an application was before an operation. Decides about destruction, so it asks the store itself: a cache may lag.
    async fn before(
        &self,
        key: &ApplicationKey,
        operation: &Operation,
        mut application: Application,
    ) -> Result<Before> {
        let wanted = Some(origin(&application.spec));
        if application.metadata.deletion.is_some() || operation.spec.origin != wanted {
            return Ok(Before::Same);
        }
        let mut releases = self.context.stored_releases(key).await?;
        releases.retain(|release| release.status.phase == ReleasePhase::Healthy);
        if let Some(late) = releases
            .iter()
            .find(|r| Some(&r.spec.origin) == wanted.as_ref())
        {
            let version = late.spec.version;
            return Err(Error::conflict(format!(
                "release {version} became healthy before it was cancelled; go back with a rollback"
            )));
        }
        let spec = &mut application.spec;
        match (releases.pop(), &operation.spec.before) {
            (Some(current), _) => {
                spec.content = current.spec.content;
                spec.rollback = Some(current.spec.version);
            }
            (None, Some(before)) => {
                spec.content = before.content.clone();
                spec.rollback = before.rollback;
                spec.autoscale.clone_from(&before.autoscale);
            }
            (None, None) if made(operation, &application.metadata) => {
                return Ok(Before::Nothing(Box::new(application)));
            }
            (None, None) => return Ok(Before::Same),
        }
        spec.forget_misfits();
        spec.attempt += 1;
        Ok(Before::Content(Box::new(application)))
    }

    /// Records that an operation is cancelled, unless a controller did.
    async fn record_cancelled(&self, scope: &Scope, operation: &str) -> Result<()> {
        for _ in 0..REPORTS_MAX {
            let mut marked = self.mark(scope, operation).await?;
            if marked.status.state.ended() {
                return Ok(());
            }
            marked.status.state = OperationState::Cancelled;
            marked.status.message = "cancelled".to_owned();
            marked.status.ended = Some(self.context.clock.now());
            match self.client().update_status(&marked).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                other => return other.map(drop),
            }
        }
        Err(too_fast(operation))
    }
}

/// What an application was before an operation.
enum Before {
    /// What it is, as far as the operation goes: something newer took the operation's place.
    Same,
    /// It was not there; so it is now.
    Nothing(Box<Application>),
    /// It wanted this.
    Content(Box<Application>),
}

/// Says whether an operation made an application. One that was made after it is another one of the same name.
fn made(operation: &Operation, application: &Metadata) -> bool {
    let first = operation.spec.generation == 1 && operation.spec.before.is_none();
    first && application.created <= operation.metadata.created
}

fn too_fast(operation: &str) -> Error {
    Error::conflict(format!(
        "operation {operation} goes on too fast to be cancelled; try again"
    ))
}

fn refuse_ended(operation: &Operation) -> Result<()> {
    if operation.status.state.ended() {
        return Err(Error::conflict(format!(
            "operation {} has ended: {}",
            operation.metadata.name, operation.status.message
        )));
    }
    Ok(())
}
