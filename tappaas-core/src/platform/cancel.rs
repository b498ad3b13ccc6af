use super::Platform;
use crate::{
    Error, ErrorKind, Result, Scope,
    controller::application::origin,
    model::{ApplicationKey, Operation, OperationSpec, OperationState, ReleasePhase},
};

/// How many reports on an operation its cancellation waits out.
const REPORTS_MAX: usize = 16;

impl Platform {
    /// Ends an operation: the application goes back to what it ran before.
    ///
    /// # Errors
    /// `NotFound` without the operation; `Conflict` if it has ended or cannot be cancelled.
    pub async fn cancel(&self, scope: &Scope, operation: &str) -> Result<()> {
        let found = self.client().get::<OperationSpec>(scope, operation)?;
        let found =
            found.ok_or_else(|| Error::not_found(format!("there is no operation {operation}")))?;
        refuse_ended(&found)?;
        let key = ApplicationKey::new(scope, found.spec.application.as_str())?;
        let Some(wanted) = &found.spec.origin else {
            return Err(Error::conflict(
                "only what makes a release can be cancelled",
            ));
        };
        let releases = self.context.releases(&key);
        let current = releases
            .iter()
            .rev()
            .find(|r| r.status.phase == ReleasePhase::Healthy);
        self.cancelled(scope, operation).await?;
        let Some(current) = current else {
            // Nothing ran before, so there is nothing to go back to but nothing.
            return self.client().delete(&key.object()).await;
        };
        self.modify(&key, |application| {
            if origin(&application.spec) == *wanted {
                application.spec.content = current.spec.content.clone();
                application.spec.rollback = Some(current.spec.version);
                application.spec.attempt += 1;
            }
            Ok(())
        })
        .await
        .map(drop)
    }

    /// Records that an operation is cancelled, however often a controller reports on it meanwhile.
    async fn cancelled(&self, scope: &Scope, operation: &str) -> Result<()> {
        for _ in 0..REPORTS_MAX {
            let mark = |operation: &mut Operation| {
                operation.spec.cancelled = true;
                Ok(())
            };
            let mut marked = self.client().modify(scope, operation, mark).await?;
            refuse_ended(&marked)?;
            marked.status.state = OperationState::Cancelled;
            marked.status.message = "cancelled".to_owned();
            marked.status.ended = Some(self.context.clock.now());
            match self.client().update_status(&marked).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                other => return other.map(drop),
            }
        }
        Err(Error::conflict(format!(
            "operation {operation} goes on too fast to be cancelled; try again"
        )))
    }
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
