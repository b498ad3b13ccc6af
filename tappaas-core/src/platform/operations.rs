use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};

use super::{Accepted, Platform};
use crate::{
    Error, Kind, Result, Scope,
    model::{Application, ApplicationKey, Operation, OperationSpec, OperationState},
};

impl Platform {
    /// How an operation is now.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn operation(&self, scope: &Scope, id: &str) -> Result<Operation> {
        let found = self.client().get::<OperationSpec>(scope, id)?;
        let unknown = || Error::not_found(format!("there is no operation {}", id.escape_default()));
        found.ok_or_else(unknown)
    }

    /// How an operation is now, and each time that changes, until it has ended. An error is the last item.
    pub fn follow(&self, scope: &Scope, id: &str) -> BoxStream<'static, Result<Operation>> {
        let follower = Follower {
            // Subscribed to before the first look, so that no change is missed.
            changes: self.client().changes(Kind::Operation),
            platform: self.clone(),
            scope: scope.clone(),
            id: id.to_owned(),
            told: None,
        };
        stream::unfold(Some(follower), async |follower| follower?.news().await).boxed()
    }

    /// Waits until what was accepted is so, and returns the application as it is then.
    ///
    /// # Errors
    /// `Invalid` if it was refused, saying why; `Conflict` if something newer took its place, or it was cancelled; `NotFound` if the
    /// application is gone; `Unavailable` if this platform has stopped meanwhile.
    pub async fn settle(&self, key: &ApplicationKey, accepted: &Accepted) -> Result<Application> {
        if let Some(id) = &accepted.operation {
            let mut news = self.follow(&key.scope(), id);
            let mut ended = false;
            while let Some(operation) = news.next().await {
                let operation = operation?;
                check(&operation)?;
                ended = operation.status.state.ended();
            }
            if !ended {
                return Err(Error::unavailable(format!(
                    "nobody tells any more how operation {id} goes"
                )));
            }
        }
        self.application(key)
    }
}

fn check(operation: &Operation) -> Result<()> {
    let message = &operation.status.message;
    match operation.status.state {
        OperationState::Running | OperationState::Succeeded => Ok(()),
        OperationState::Failed => Err(Error::invalid(message)),
        OperationState::Superseded | OperationState::Cancelled => Err(Error::conflict(message)),
    }
}

/// What a follower of an operation knows.
struct Follower {
    platform: Platform,
    scope: Scope,
    id: String,
    changes: BoxStream<'static, ()>,
    told: Option<Operation>,
}

impl Follower {
    /// Waits until there is something to tell. After the last of it nobody follows any more.
    async fn news(mut self) -> Option<(Result<Operation>, Option<Self>)> {
        loop {
            match self.platform.operation(&self.scope, &self.id) {
                Err(error) => return Some((Err(error), None)),
                Ok(operation) if self.told.as_ref() != Some(&operation) => {
                    self.told = Some(operation.clone());
                    let goes_on = !operation.status.state.ended();
                    return Some((Ok(operation), goes_on.then_some(self)));
                }
                Ok(_) => self.changes.next().await?,
            }
        }
    }
}
