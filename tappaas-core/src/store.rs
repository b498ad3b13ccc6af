//! The [`Store`] trait, and the pure decisions behind its writes.

use std::fmt;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::Value;

use crate::{Error, Key, Kind, Object, Result, Revision, Scope, Timestamp};

/// Keeps versioned objects; the only memory the platform has.
///
/// # Contract
/// - A write is answered after it is durable, never before.
/// - `put` with [`Precondition::Absent`] creates, and fails with `AlreadyExists` if the object is there.
/// - Creating assigns `uid`, `created`, generation 1 and a revision, and ignores the given status.
/// - `put` with [`Precondition::Revision`] replaces metadata and spec, keeps the status, and fails with `Conflict` if the object
///   has another revision and with `NotFound` if it is not there.
/// - `put` with [`Precondition::Present`] does the same whatever the revision is.
/// - `put` raises the generation by one if, and only if, the spec changed; a `delete` that sets `deletion` may raise it as well.
/// - A write that changes nothing keeps the revision and sends no event.
/// - `put` cannot change `uid`, `created` or `deletion`; on an object whose deletion was asked for it cannot add finalizers.
/// - `put_status` replaces the status alone; it needs the object, and honours [`Precondition::Revision`].
/// - Of concurrent writers with the same expected revision exactly one succeeds.
/// - `delete` of an object without finalizers removes it; with finalizers it sets `deletion` and keeps it.
/// - The `put` that empties the finalizers of an object whose deletion was asked for removes it.
/// - What was removed is returned, and sent to watchers, with the revision of its removal.
/// - `delete` of what is not there succeeds and returns `None`, unless the precondition names a revision: `NotFound`.
/// - An object created again under an old name has a new `uid`, and a higher revision than any before.
/// - `get` and `list` return what the last answered write left, and nothing that a crash could still take back.
/// - `list` returns the objects in the scope in order of their keys, in pages of at most the limit, and the revision from which a watch
///   continues; a limit of 0 is `Invalid`.
/// - All pages of one listing show the same revision; a page asked for too late fails with `Expired`.
/// - `watch` yields every later change of the kind in order of revision, once each, beginning right after `from`.
/// - `watch` from a revision that is no longer kept, or that the store has not reached, yields [`Event::Expired`] and ends; so may a watcher
///   that reads too slowly. A stream that ends without it broke off: watch again from the last revision seen.
/// - An invalid key, and an object above [`Object::SIZE_MAX`] or nested deeper than [`Object::DEPTH_MAX`], are `Invalid`.
/// - What was put is read back equal, unknown fields and every JSON value included; but a float without a fraction may come back as an
///   integer, and an integer beyond 64 bits with a sign may be `Invalid`.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Reads one object.
    async fn get(&self, key: &Key) -> Result<Option<Object>>;

    /// Reads the objects of one kind in one scope, in order of their keys.
    async fn list(&self, request: &ListRequest) -> Result<Page>;

    /// Creates or replaces an object's metadata and spec, and returns the object as it is now.
    async fn put(&self, object: Object, precondition: Precondition) -> Result<Object>;

    /// Replaces an object's status, and returns the object as it is now.
    async fn put_status(&self, object: Object, precondition: Precondition) -> Result<Object>;

    /// Deletes an object, or asks for its deletion if it has finalizers. Returns it as it was left, `None` if it was not there.
    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Option<Object>>;

    /// Follows the changes of one kind after a revision.
    async fn watch(&self, kind: Kind, from: Revision) -> Result<BoxStream<'static, Event>>;
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Precondition {
    /// The object does not exist.
    Absent,
    /// The object exists with any revision.
    Present,
    /// The object exists with this revision.
    Revision(Revision),
}

/// What to list.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Objects of this kind,
    pub kind: Kind,
    /// in this scope or inside it,
    pub scope: Scope,
    /// at most so many at once (a store may return fewer),
    pub limit: usize,
    /// going on where [`Page::next`] says.
    pub after: Option<Cursor>,
}

impl ListRequest {
    /// The most objects a page has.
    pub const LIMIT_MAX: usize = 500;

    /// Asks for the first page of everything in a scope.
    pub fn new(kind: Kind, scope: Scope) -> Self {
        Self {
            kind,
            scope,
            limit: Self::LIMIT_MAX,
            after: None,
        }
    }
}

/// Where the next page begins. Opaque to all but the store that made it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor(pub String);

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct Page {
    /// The objects, in order of their keys.
    pub objects: Vec<Object>,
    /// The revision of the listing: a watch from here misses nothing.
    pub revision: Revision,
    /// Where to go on, if there is more.
    pub next: Option<Cursor>,
}

/// One change of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The object was created or changed.
    Applied(Object),
    /// The object is gone; this is how it was, with the revision of its removal.
    Deleted(Object),
    /// Nothing happened up to this revision.
    Bookmark(Revision),
    /// The watch cannot go on: list again.
    Expired,
}

/// What a write comes to. Pure, so that every embedded store means the same by it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The object is to be kept like this, under a new revision.
    Keep(Box<Object>),
    /// The object is to be removed; this is how it was last.
    Remove(Box<Object>),
    /// Nothing changes.
    Nothing,
}

/// Decides what [`Store::put`] comes to. `uid` and `now` are used only when it creates.
///
/// # Errors
/// As the contract of [`Store`] says.
pub fn decide_put(
    existing: Option<&Object>,
    mut object: Object,
    precondition: Precondition,
    uid: impl FnOnce() -> String,
    now: Timestamp,
) -> Result<Outcome> {
    let key = object.key();
    key.check()?;
    let Some(old) = check_precondition(existing, &key, precondition)? else {
        object.status = Value::Null;
        object.metadata.uid = uid();
        object.metadata.created = Some(now);
        object.metadata.generation = 1;
        object.metadata.deletion = None;
        object.check()?;
        return Ok(Outcome::Keep(Box::new(object)));
    };
    object.status.clone_from(&old.status);
    object.metadata.uid.clone_from(&old.metadata.uid);
    object.metadata.created = old.metadata.created;
    object.metadata.deletion = old.metadata.deletion;
    object.metadata.revision = old.metadata.revision;
    object.metadata.generation = old.metadata.generation + u64::from(object.spec != old.spec);
    object.check()?;
    if object.metadata.deletion.is_some() {
        let allowed = &old.metadata.finalizers;
        object.metadata.finalizers.retain(|f| allowed.contains(f));
        if object.metadata.finalizers.is_empty() {
            return Ok(Outcome::Remove(Box::new(object)));
        }
    }
    Ok(keep_if_changed(object, old))
}

/// Decides what [`Store::put_status`] comes to.
///
/// # Errors
/// As the contract of [`Store`] says.
pub fn decide_put_status(
    existing: Option<&Object>,
    object: Object,
    precondition: Precondition,
) -> Result<Outcome> {
    let key = object.key();
    key.check()?;
    let Some(old) = check_precondition(existing, &key, precondition)? else {
        return Err(not_found(&key));
    };
    let new = Object {
        status: object.status,
        ..old.clone()
    };
    new.check()?;
    Ok(keep_if_changed(new, old))
}

/// Decides what [`Store::delete`] comes to.
///
/// # Errors
/// As the contract of [`Store`] says.
pub fn decide_delete(
    existing: Option<&Object>,
    key: &Key,
    precondition: Precondition,
    now: Timestamp,
) -> Result<Outcome> {
    key.check()?;
    let Some(old) = existing else {
        return match precondition {
            Precondition::Revision(_) => Err(not_found(key)),
            Precondition::Absent | Precondition::Present => Ok(Outcome::Nothing),
        };
    };
    check_precondition(existing, key, precondition)?;
    if old.metadata.finalizers.is_empty() {
        return Ok(Outcome::Remove(Box::new(old.clone())));
    }
    let mut new = old.clone();
    new.metadata.deletion.get_or_insert(now);
    Ok(keep_if_changed(new, old))
}

fn keep_if_changed(new: Object, old: &Object) -> Outcome {
    if new == *old {
        Outcome::Nothing
    } else {
        Outcome::Keep(Box::new(new))
    }
}

fn check_precondition<'a>(
    existing: Option<&'a Object>,
    key: &Key,
    precondition: Precondition,
) -> Result<Option<&'a Object>> {
    match (existing, precondition) {
        (None, Precondition::Absent) => Ok(None),
        (None, Precondition::Present | Precondition::Revision(_)) => Err(not_found(key)),
        (Some(_), Precondition::Absent) => {
            Err(Error::already_exists(format!("{key} exists already")))
        }
        (Some(old), Precondition::Revision(expected)) if old.metadata.revision != expected => Err(
            Error::conflict(format!("{key} was changed by somebody else")),
        ),
        (Some(old), Precondition::Present | Precondition::Revision(_)) => Ok(Some(old)),
    }
}

fn not_found(key: &Key) -> Error {
    Error::not_found(format!("{key} does not exist"))
}
