use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use kube::{
    Api,
    api::{DynamicObject, WatchEvent, WatchParams},
    core::Status,
};
use tappaas_core::{Event, Key, Kind, Object, Result, Revision};

use super::{
    form::{self, from_kubernetes},
    namespaces::Namespaces,
};
use crate::failure::{failure, is_because, within};

/// A watch in which nothing comes for so long has broken off: the API server sends a bookmark each minute, and ends it after five.
const SILENCE_MAX: Duration = Duration::from_mins(6);

type Told = kube::Result<WatchEvent<DynamicObject>>;

/// Follows a kind in all namespaces. `reached` is the revision that the API server is at.
pub(super) async fn watch(
    api: Api<DynamicObject>,
    kind: Kind,
    namespaces: Arc<Namespaces>,
    from: Revision,
    reached: Revision,
) -> Result<BoxStream<'static, Event>> {
    // Of a revision to come, after a restore from a backup, the API server says nothing: it waits. And 0 means any to it.
    if from.counter() == 0 || from > reached {
        return Ok(stream::iter([Event::Expired]).boxed());
    }
    let follower = Follower {
        api,
        kind,
        namespaces,
        at: from,
        told: None,
    };
    let opened = follower.opened().await;
    let (follower, first) = match opened {
        Ok(follower) => (Some(follower), None),
        Err(kube::Error::Api(status)) if is_expired(&status) => (None, Some(Event::Expired)),
        Err(error) => {
            return Err(failure(
                format!("cannot watch objects of kind {kind}"),
                error,
            ));
        }
    };
    let events = stream::unfold(follower, |follower| async { follower?.next().await });
    Ok(stream::iter(first).chain(events).boxed())
}

/// A watch of a kind, which the API server ends every few minutes, and which then goes on where it was.
struct Follower {
    api: Api<DynamicObject>,
    kind: Kind,
    namespaces: Arc<Namespaces>,
    /// The revision seen last.
    at: Revision,
    told: Option<BoxStream<'static, Told>>,
}

impl Follower {
    async fn opened(mut self) -> kube::Result<Self> {
        let request = WatchParams::default();
        let told = within(self.api.watch(&request, &String::from(self.at))).await?;
        self.told = Some(told.boxed());
        Ok(self)
    }

    /// What comes next, and the watch that goes on after it, if it does. What cannot be understood ends it: whoever watches then watches
    /// again, or lists.
    async fn next(mut self) -> Option<(Event, Option<Self>)> {
        // A server that ends every watch at once is not asked without end.
        let mut seen_any = true;
        loop {
            let told = tokio::time::timeout(SILENCE_MAX, self.told.as_mut()?.next()).await;
            let event = match told.ok()? {
                Some(event) => translate(self.kind, &self.namespaces, event).await?,
                None if seen_any => {
                    seen_any = false;
                    self = match self.opened().await {
                        Err(kube::Error::Api(status)) if is_expired(&status) => {
                            return Some((Event::Expired, None));
                        }
                        opened => opened.ok()?,
                    };
                    continue;
                }
                None => return None,
            };
            seen_any = true;
            match event {
                None => {}
                Some(Event::Expired) => return Some((Event::Expired, None)),
                Some(event) => {
                    self.at = self.at.max(revision(&event));
                    return Some((event, Some(self)));
                }
            }
        }
    }
}

fn revision(event: &Event) -> Revision {
    match event {
        Event::Applied(object) | Event::Deleted(object) => object.metadata.revision,
        Event::Bookmark(revision) => *revision,
        Event::Expired => Revision::default(),
    }
}

/// `None` where the watch broke off; `Some(None)` of what is somebody else's.
async fn translate(kind: Kind, namespaces: &Namespaces, event: Told) -> Option<Option<Event>> {
    let (object, is_gone) = match event {
        Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => (object, false),
        Ok(WatchEvent::Deleted(object)) => (object, true),
        Ok(WatchEvent::Bookmark(bookmark)) => {
            let revision = form::revision(Some(&bookmark.metadata.resource_version));
            return revision
                .ok()
                .map(|revision| Some(Event::Bookmark(revision)));
        }
        Ok(WatchEvent::Error(status)) if is_expired(&status) => return Some(Some(Event::Expired)),
        Ok(WatchEvent::Error(_)) | Err(_) => return None,
    };
    let Some(key) = namespaces.key(kind, &object).await.ok()? else {
        return Some(None);
    };
    let object = from_kubernetes(&key, object).ok()?;
    Some(Some(match is_gone {
        false => Event::Applied(object),
        true => Event::Deleted(without_finalizers(object)),
    }))
}

/// An object as it was last, from what the API server says of its removal.
pub(super) fn removed(key: &Key, object: DynamicObject) -> Result<Object> {
    from_kubernetes(key, object).map(without_finalizers)
}

/// The API server sends what its last write found, which may still have had the finalizers that the write took away.
fn without_finalizers(mut object: Object) -> Object {
    object.metadata.finalizers.clear();
    object
}

/// The revision is not kept any more, or not reached yet.
fn is_expired(status: &Status) -> bool {
    status.code == 410 || is_because(status, "ResourceVersionTooLarge")
}
