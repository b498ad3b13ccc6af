use std::sync::Arc;

use serde_json::json;
use tappaas_core::{ErrorKind, Event, Kind, ListRequest, Precondition, Store};

use super::fixture::{Watch, application, create, create_held, now, scopes, unchanged};
use crate::conformance::verdict::{Verdict, holds, refused, same};

/// `delete` of an object without finalizers removes it.
pub async fn deleting_removes_what_has_no_finalizers(store: Arc<dyn Store>) -> Verdict {
    let object = create(&store, "a").await?;
    let gone = store
        .delete(&object.key(), Precondition::Present)
        .await?
        .ok_or("nothing was deleted")?;
    same(&gone.spec, &object.spec, "what was deleted")?;
    same(store.get(&object.key()).await?, None, "the object")?;
    let listed = store
        .list(&ListRequest::new(Kind::Application, scopes()[0].clone()))
        .await?;
    same(listed.objects, vec![], "the listing")?;
    let late = store.put(object.clone(), unchanged(&object)).await;
    refused(late, ErrorKind::NotFound, "replacing what was deleted")
}

/// `delete` of an object with finalizers sets `deletion` and keeps it. The `put` that empties the finalizers removes it.
pub async fn deleting_waits_for_finalizers(store: Arc<dyn Store>) -> Verdict {
    let object = create_held(&store, "a", &["x", "y"]).await?;
    let mut asked = store
        .delete(&object.key(), unchanged(&object))
        .await?
        .ok_or("nothing was deleted")?;
    holds(
        asked.metadata.deletion.is_some(),
        "no time of deletion was set",
    )?;
    holds(
        asked.metadata.revision > object.metadata.revision,
        "a change has no higher revision",
    )?;
    holds(
        (1..=2).contains(&asked.metadata.generation),
        "the generation rose by more than one",
    )?;
    same(
        store.get(&object.key()).await?,
        Some(asked.clone()),
        "the object",
    )?;
    asked.status = json!("cleaning");
    let asked = store.put_status(asked.clone(), unchanged(&asked)).await?;
    let mut half = asked.clone();
    half.metadata.finalizers.remove(0);
    let mut half = store.put(half, unchanged(&asked)).await?;
    same(half.metadata.deletion, asked.metadata.deletion, "deletion")?;
    same(
        store.get(&object.key()).await?,
        Some(half.clone()),
        "the object",
    )?;
    half.metadata.finalizers.clear();
    let gone = store.put(half.clone(), unchanged(&half)).await?;
    same(&gone.metadata.finalizers, &vec![], "finalizers")?;
    same(store.get(&object.key()).await?, None, "the object")
}

/// On an object whose deletion was asked for `put` cannot add finalizers; on another one it can.
pub async fn no_finalizer_is_added_once_deletion_was_asked_for(store: Arc<dyn Store>) -> Verdict {
    let mut object = create(&store, "a").await?;
    object.metadata.finalizers = vec!["x".into()];
    let object = store.put(object.clone(), unchanged(&object)).await?;
    same(&object.metadata.finalizers, &vec!["x".into()], "finalizers")?;
    let mut asked = store
        .delete(&object.key(), Precondition::Present)
        .await?
        .ok_or("nothing was deleted")?;
    asked.metadata.finalizers.push("late".into());
    let mut kept = store.put(asked.clone(), unchanged(&asked)).await?;
    same(&kept.metadata.finalizers, &vec!["x".into()], "finalizers")?;
    kept.metadata.finalizers = vec!["late".into()];
    store.put(kept.clone(), unchanged(&kept)).await?;
    same(
        store.get(&object.key()).await?,
        None,
        "the object, with none of its own finalizers left",
    )
}

/// What was removed is returned, and sent to watchers, with the revision of its removal.
pub async fn a_removal_has_its_own_revision(store: Arc<dyn Store>) -> Verdict {
    let object = create(&store, "a").await?;
    let held = create_held(&store, "b", &["x"]).await?;
    let mut asked = store
        .delete(&held.key(), Precondition::Present)
        .await?
        .ok_or("nothing was deleted")?;
    let mut watch = Watch::from(
        &store,
        Kind::Application,
        now(&store, Kind::Application).await?,
    )
    .await?;
    let gone = store
        .delete(&object.key(), Precondition::Present)
        .await?
        .ok_or("nothing was deleted")?;
    holds(
        gone.metadata.revision > asked.metadata.revision,
        "a removal has no higher revision",
    )?;
    same(
        watch.next().await,
        Some(Event::Deleted(gone)),
        "the event of a removal",
    )?;
    asked.metadata.finalizers.clear();
    let gone = store.put(asked.clone(), unchanged(&asked)).await?;
    holds(
        gone.metadata.revision > asked.metadata.revision,
        "a removal has no higher revision",
    )?;
    same(
        watch.next().await,
        Some(Event::Deleted(gone)),
        "the event of a removal",
    )
}

/// `delete` of what is not there succeeds and returns `None`, unless the precondition names a revision.
pub async fn deleting_what_is_not_there_succeeds(store: Arc<dyn Store>) -> Verdict {
    let other = create(&store, "other").await?;
    let key = application("a", json!({})).key();
    same(
        store.delete(&key, Precondition::Present).await?,
        None,
        "what was deleted",
    )?;
    same(
        store.delete(&key, Precondition::Absent).await?,
        None,
        "what was deleted",
    )?;
    refused(
        store.delete(&key, unchanged(&other)).await,
        ErrorKind::NotFound,
        "a revision of what is not there",
    )?;
    store.delete(&other.key(), Precondition::Present).await?;
    same(
        store.delete(&other.key(), Precondition::Present).await?,
        None,
        "what was deleted twice",
    )
}

/// `delete` honours the revision.
pub async fn deleting_honours_the_revision(store: Arc<dyn Store>) -> Verdict {
    let mut object = create(&store, "a").await?;
    object.status = json!(1);
    let newer = store.put_status(object.clone(), unchanged(&object)).await?;
    refused(
        store.delete(&object.key(), unchanged(&object)).await,
        ErrorKind::Conflict,
        "an old revision",
    )?;
    same(
        store.get(&object.key()).await?,
        Some(newer.clone()),
        "the object",
    )?;
    store.delete(&object.key(), unchanged(&newer)).await?;
    same(store.get(&object.key()).await?, None, "the object")
}

/// An object created again under an old name has a new `uid`, and a higher revision than any before.
pub async fn a_namesake_is_another_object(store: Arc<dyn Store>) -> Verdict {
    let old = create(&store, "a").await?;
    let gone = store
        .delete(&old.key(), Precondition::Present)
        .await?
        .ok_or("nothing was deleted")?;
    let new = create(&store, "a").await?;
    holds(
        new.metadata.uid != old.metadata.uid,
        "a namesake inherited the uid",
    )?;
    holds(
        new.metadata.revision > gone.metadata.revision,
        "a revision was given out again",
    )?;
    same(new.metadata.generation, 1, "generation")?;
    refused(
        store.delete(&old.key(), unchanged(&old)).await,
        ErrorKind::Conflict,
        "a revision of the old object",
    )
}
