use std::collections::BTreeMap;

use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::domains::{FOREIGN_HOST, NO_POOL};
use crate::{
    Key, Kind, Name, Scope,
    client::{Change, Client, Held, Reference},
    model::{ApplicationSpec, ProjectSpec, ReleaseSpec, Typed},
};

/// Names what to look at when objects of a kind change: `keys` tells it from the changed object, if it is still there, and its key.
pub(super) fn objects(
    client: &Client,
    kind: Kind,
    keys: fn(&Client, Option<&Held>, &Key) -> Vec<Key>,
) -> BoxStream<'static, Key> {
    let changes = stream::unfold(client.subscribe(kind), next_change);
    let client = client.clone();
    let named = changes.flat_map(move |change| {
        let changed = match change {
            Change::Key(key) => vec![key],
            Change::All => client.keys(kind, &Scope::cluster()),
        };
        let named: Vec<Key> = changed
            .iter()
            .flat_map(|key| keys(&client, client.held(key).as_deref(), key))
            .collect();
        stream::iter(named)
    });
    named.boxed()
}

async fn next_change(mut changes: Receiver<Change>) -> Option<(Change, Receiver<Change>)> {
    match changes.recv().await {
        Ok(change) => Some((change, changes)),
        Err(RecvError::Lagged(_)) => Some((Change::All, changes)),
        Err(RecvError::Closed) => None,
    }
}

/// The application that an object names in `spec.application`.
pub(super) fn named_application(_: &Client, object: Option<&Held>, key: &Key) -> Vec<Key> {
    let name = object.and_then(|object| object.application().map(str::to_owned));
    // Of an object that is gone only the name is left: `<application>-<number>`.
    let name = name.or_else(|| key.name.rsplit_once('-').map(|(name, _)| name.to_owned()));
    name.map(|name| Key::new(Kind::Application, key.scope.clone(), name))
        .into_iter()
        .collect()
}

/// An object by itself, also one that is gone.
pub(super) fn itself(_: &Client, _: Option<&Held>, key: &Key) -> Vec<Key> {
    vec![key.clone()]
}

/// The applications in an environment.
pub(super) fn applications_inside(client: &Client, _: Option<&Held>, key: &Key) -> Vec<Key> {
    match (key.scope.names(), Name::new(&key.name)) {
        ([tenant, project], Ok(name)) => {
            let inside = Scope::environment(tenant.clone(), project.clone(), name);
            client.keys(Kind::Application, &inside)
        }
        _ => Vec::new(),
    }
}

/// The applications in a project that got no release for want of a host.
pub(super) fn hostless_of_project(client: &Client, _: Option<&Held>, key: &Key) -> Vec<Key> {
    match (key.scope.names(), Name::new(&key.name)) {
        ([tenant], Ok(name)) => hostless(client, &Scope::project(tenant.clone(), name)),
        _ => Vec::new(),
    }
}

/// The applications that got no release for want of a host: a domain pool may keep its domains from anybody.
pub(super) fn hostless_of_all(client: &Client, _: Option<&Held>, _: &Key) -> Vec<Key> {
    hostless(client, &Scope::cluster())
}

fn hostless(client: &Client, scope: &Scope) -> Vec<Key> {
    let applications = client.list::<ApplicationSpec>(scope);
    let refused = applications.iter().filter(|it| {
        let mut known = it.status.conditions.iter();
        known.any(|it| [FOREIGN_HOST, NO_POOL].contains(&it.reason.as_str()))
    });
    refused.map(Typed::key).collect()
}

/// The projects that name a domain pool.
pub(super) fn projects_of_pool(client: &Client, _: Option<&Held>, key: &Key) -> Vec<Key> {
    let projects = client.list::<ProjectSpec>(&Scope::cluster());
    let named = projects.iter().filter(|project| {
        let pool = project.spec.domain_pool.as_ref();
        pool.is_some_and(|name| name.as_str() == key.name)
    });
    named.map(Typed::key).collect()
}

/// The applications that an application is or was bound to, as far as its kept releases tell.
pub(super) fn bound_applications(client: &Client, object: Option<&Held>, key: &Key) -> Vec<Key> {
    let application = object.and_then(|object| object.typed::<ApplicationSpec>().ok());
    let now = application.map(|application| application.spec.content.bindings);
    let releases = client.naming::<ReleaseSpec>(&key.scope, &Reference::Of(key.name.clone()));
    let released = releases
        .into_iter()
        .map(|release| release.spec.content.bindings);
    let callees = now
        .into_iter()
        .chain(released)
        .flat_map(BTreeMap::into_values)
        .map(|binding| binding.application);
    callees
        .map(|name| Key::new(Kind::Application, key.scope.clone(), name.as_str()))
        .collect()
}
