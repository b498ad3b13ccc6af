use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use serde_json::{Value, json};
use tappaas_core::{
    Event, Kind, ListRequest, Metadata, Name, Object, Precondition, Result, Revision, Scope, Store,
    object::API_VERSION,
};

/// How long a case waits for an event.
const DEADLINE: Duration = Duration::from_secs(20);

/// The environments whose scopes the cases write to: `one/p/e`, `one/p/f` and `two/p/e`.
pub fn scopes() -> [Scope; 3] {
    let name = |name: &str| Name::new(name).expect("a constant");
    [("one", "e"), ("one", "f"), ("two", "e")]
        .map(|(tenant, environment)| Scope::environment(name(tenant), name("p"), name(environment)))
}

pub(super) fn application(name: &str, spec: Value) -> Object {
    object(Kind::Application, &scopes()[0], name, spec)
}

pub(super) fn object(kind: Kind, scope: &Scope, name: &str, spec: Value) -> Object {
    Object {
        api_version: API_VERSION.to_owned(),
        kind,
        metadata: Metadata::new(scope, name),
        spec,
        status: Value::Null,
    }
}

pub(super) async fn create(store: &Arc<dyn Store>, name: &str) -> Result<Object> {
    store
        .put(application(name, json!({ "n": 0 })), Precondition::Absent)
        .await
}

pub(super) async fn create_held(
    store: &Arc<dyn Store>,
    name: &str,
    finalizers: &[&str],
) -> Result<Object> {
    let mut held = application(name, json!({ "n": 0 }));
    held.metadata.finalizers = finalizers
        .iter()
        .map(|&finalizer| finalizer.into())
        .collect();
    store.put(held, Precondition::Absent).await
}

/// The precondition that nobody wrote since `object` was read.
pub(super) fn unchanged(object: &Object) -> Precondition {
    Precondition::Revision(object.metadata.revision)
}

/// The revision from which a watch sees everything that comes.
pub(super) async fn now(store: &Arc<dyn Store>, kind: Kind) -> Result<Revision> {
    let request = ListRequest::new(kind, Scope::cluster());
    Ok(store.list(&request).await?.revision)
}

/// A watch, bookmarks left out.
pub(super) struct Watch(BoxStream<'static, Event>);

impl Watch {
    pub(super) async fn from(
        store: &Arc<dyn Store>,
        kind: Kind,
        revision: Revision,
    ) -> Result<Self> {
        Ok(Self(store.watch(kind, revision).await?))
    }

    /// The next event that is no bookmark; `None` once the watch ends, or if nothing comes in time.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let next = async {
            loop {
                match self.0.next().await {
                    Some(Event::Bookmark(_)) => {}
                    event => return event,
                }
            }
        };
        tokio::time::timeout(DEADLINE, next).await.ok()?
    }
}
