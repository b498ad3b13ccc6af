//! Backends that fail as real ones do: [`Faulty`] puts faults in front of any backend.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::sync::Arc;
//! use tappaas_core::{backend::{SecretPath, SecretStore}, memory};
//! use tappaas_testkit::faulty::{Fault, Faults, Faulty};
//!
//! let faults = Arc::new(Faults::script([("delete", 2, Fault::LoseReply)]));
//! let store: Arc<dyn SecretStore> = Arc::new(memory::SecretStore::new());
//! let store = Faulty::new(store, &faults);
//! let path = SecretPath::new("a").unwrap();
//! assert!(store.delete(&path).await.is_ok());
//! assert!(store.delete(&path).await.is_err());
//! assert_eq!(faults.injected().len(), 1);
//! # }
//! ```

mod backends;
mod faults;
mod state;

use std::{fmt, sync::Arc};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tappaas_core::{Error, Result};

pub use faults::{Call, Fault, Faults, Injected, Odds};
use state::Past;

/// A backend with faults in front of it. Implements every backend trait, `Store` and `Durable` over an inner one.
pub struct Faulty<T: ?Sized> {
    inner: Arc<T>,
    faults: Arc<Faults>,
    past: Past,
}

impl<T: ?Sized> Faulty<T> {
    /// Puts faults in front of a backend. Several backends may share their faults.
    pub fn new(inner: Arc<T>, faults: &Arc<Faults>) -> Self {
        Self {
            inner,
            faults: Arc::clone(faults),
            past: Past::default(),
        }
    }

    /// Makes a call, or fails it, as its verb's turn says.
    async fn call<R, F>(&self, verb: &'static str, call: impl Fn() -> F) -> Result<R>
    where
        F: Future<Output = Result<R>>,
    {
        let (told, fault) = self.faults.of_call(verb);
        self.faults.tell(told).await;
        let answer = self.meet(verb, fault, call).await;
        self.faults.tell(Call { done: true, ..told }).await;
        answer
    }

    async fn meet<R, F>(
        &self,
        verb: &'static str,
        fault: Option<Fault>,
        call: impl Fn() -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<R>>,
    {
        match fault {
            None => call().await,
            Some(Fault::Refuse(kind)) => {
                Err(Error::new(kind, format!("injected: {verb} is refused")))
            }
            Some(Fault::LoseReply) => {
                call().await?;
                Err(Error::unavailable(format!(
                    "injected: the reply of {verb} is lost"
                )))
            }
            Some(Fault::Repeat) => {
                call().await?;
                call().await
            }
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                call().await
            }
            Some(Fault::Double | Fault::End | Fault::Miss | Fault::Stale(_)) => call().await,
        }
    }

    /// Passes the items of a watch on, or not, as the turns of `watch item` say.
    fn items<I: Clone + Send + 'static>(
        &self,
        items: BoxStream<'static, I>,
    ) -> BoxStream<'static, I> {
        let faults = Arc::clone(&self.faults);
        let state = (faults, items, None);
        let items = stream::unfold(state, |(faults, mut items, double)| async move {
            if let Some(item) = double {
                return Some((item, (faults, items, None)));
            }
            loop {
                let item = items.next().await?;
                let double = match faults.of_item("watch item") {
                    Some(Fault::Miss) => continue,
                    Some(Fault::End) => return None,
                    Some(Fault::Double) => Some(item.clone()),
                    Some(Fault::Delay(delay)) => {
                        tokio::time::sleep(delay).await;
                        None
                    }
                    _ => None,
                };
                return Some((item, (faults, items, double)));
            }
        });
        items.boxed()
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for Faulty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faulty").field(&self.inner).finish()
    }
}
