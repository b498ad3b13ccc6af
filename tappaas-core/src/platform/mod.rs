//! The platform as one type: backends and settings in, verbs out. The only type that most embedders touch.

mod backends;
mod cancel;
mod environments;
mod operations;
mod requests;
mod sources;
mod verbs;

use std::sync::Arc;

pub use backends::Backends;
pub use requests::{Accepted, Deployment};

use crate::{
    Clock, Ids, Result,
    client::Client,
    controller::{self, Context, Settings},
};

/// A platform: takes requests, and runs the controllers that carry them out.
///
/// Cheap to clone; all clones are the same platform.
#[derive(Clone, Debug)]
pub struct Platform {
    context: Arc<Context>,
}

impl Platform {
    /// Puts a platform together.
    ///
    /// # Errors
    /// `Unsupported` if the backends do not fit together, saying why; `Invalid` if a setting cannot work.
    pub fn new(
        backends: Backends,
        settings: Settings,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self> {
        settings.check()?;
        backends.check()?;
        let store = backends.store.clone();
        let context = Context {
            client: Client::new(store.clone(), clock.clone(), settings.resync),
            store,
            backends,
            clock,
            ids,
            settings,
        };
        Ok(Self {
            context: Arc::new(context),
        })
    }

    /// Runs the cache and the controllers for as long as it is polled. What was begun when it is dropped goes on with the next run.
    pub async fn run(&self) {
        tokio::select! {
            () = self.context.client.run() => {}
            () = self.control() => {}
        }
    }

    /// Runs the controllers alone, for as long as it is polled. Somebody else runs the cache ([`Client::run`]), as where several processes
    /// have one and only one of them is to act.
    pub async fn control(&self) {
        controller::run(self.context.clone()).await;
    }

    /// Typed reads. Empty until [`Platform::run`] runs and [`Client::sync`] returned.
    pub fn client(&self) -> &Client {
        &self.context.client
    }

    /// The backends.
    pub fn backends(&self) -> &Backends {
        &self.context.backends
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.context.settings
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.context.clock
    }
}
