use std::sync::Arc;

use serde_json::json;
use tappaas_core::{Error, Event, Kind, Object, Precondition, Result, Revision, Scope, Store};

use super::fixture::{Watch, application, create, create_held, now, object, scopes, unchanged};
use crate::conformance::verdict::{Verdict, holds, same};

/// `watch` yields every later change of the kind in order of revision, once each.
pub async fn a_watch_yields_every_change_in_order(store: Arc<dyn Store>) -> Verdict {
    let mut watch = Watch::from(
        &store,
        Kind::Application,
        now(&store, Kind::Application).await?,
    )
    .await?;
    for expected in history(&store).await? {
        same(watch.next().await, Some(expected), "the next event")?;
    }
    Ok(())
}

/// `watch` begins right after `from`, wherever in the history that is.
pub async fn a_watch_begins_right_after_its_revision(store: Arc<dyn Store>) -> Verdict {
    let start = now(&store, Kind::Application).await?;
    let history = history(&store).await?;
    let revisions: Vec<_> = history.iter().filter_map(revision).collect();
    holds(
        revisions.is_sorted_by(|a, b| a < b),
        "revisions do not rise",
    )?;
    for (skip, from) in [start].iter().chain(&revisions).enumerate() {
        let mut watch = Watch::from(&store, Kind::Application, *from).await?;
        for expected in &history[skip..] {
            same(
                watch.next().await.as_ref(),
                Some(expected),
                "the next event",
            )?;
        }
    }
    Ok(())
}

/// `watch` yields the changes of one kind.
pub async fn a_watch_sees_its_kind_alone(store: Arc<dyn Store>) -> Verdict {
    let mut volumes = Watch::from(&store, Kind::Volume, now(&store, Kind::Volume).await?).await?;
    let mut claims =
        Watch::from(&store, Kind::HostClaim, now(&store, Kind::HostClaim).await?).await?;
    create(&store, "a").await?;
    let volume = object(Kind::Volume, &scopes()[0], "a", json!({}));
    let volume = store.put(volume, Precondition::Absent).await?;
    let claim = object(Kind::HostClaim, &Scope::cluster(), "a", json!({}));
    let claim = store.put(claim, Precondition::Absent).await?;
    same(
        volumes.next().await,
        Some(Event::Applied(volume)),
        "the first event of volumes",
    )?;
    same(
        claims.next().await,
        Some(Event::Applied(claim)),
        "the first event of host claims",
    )
}

/// The revision of a listing is where a watch continues: nothing is missed, nothing comes twice.
pub async fn a_listing_and_a_watch_join_without_a_gap(store: Arc<dyn Store>) -> Verdict {
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        let mut object = create(&writer, "a").await?;
        for n in 1..=60 {
            object.spec = json!({ "n": n });
            object = writer.put(object.clone(), unchanged(&object)).await?;
        }
        Ok::<_, Error>(())
    });
    for _ in 0..5 {
        let request = tappaas_core::ListRequest::new(Kind::Application, Scope::cluster());
        let page = store.list(&request).await?;
        let mut seen = page.objects.first().map_or(-1, count);
        let mut watch = Watch::from(&store, Kind::Application, page.revision).await?;
        while seen < 60 {
            let Some(Event::Applied(object)) = watch.next().await else {
                return Err("the watch ended, or an object was deleted by nobody".into());
            };
            same(count(&object), seen + 1, "the next event")?;
            seen += 1;
        }
    }
    Ok(writing.await??)
}

/// `watch` from a revision that the store has not reached yields `Expired` and ends.
pub async fn a_watch_from_the_future_expires(store: Arc<dyn Store>) -> Verdict {
    create(&store, "a").await?;
    let future =
        Revision::from_counter(now(&store, Kind::Application).await?.counter() + 1_000_000);
    let mut watch = Watch::from(&store, Kind::Application, future).await?;
    same(watch.next().await, Some(Event::Expired), "the first event")?;
    same(watch.next().await, None, "the end")
}

/// A watcher that reads too slowly may be told `Expired`, and then the watch ends; it never misses a change silently.
pub async fn a_slow_watcher_misses_nothing_or_expires(store: Arc<dyn Store>) -> Verdict {
    let mut watch = Watch::from(
        &store,
        Kind::Application,
        now(&store, Kind::Application).await?,
    )
    .await?;
    let mut object = create(&store, "a").await?;
    for n in 1..=300 {
        object.spec = json!({ "n": n });
        object = store.put(object.clone(), unchanged(&object)).await?;
    }
    for expected in 0..=300 {
        match watch.next().await {
            Some(Event::Applied(object)) => same(count(&object), expected, "the next event")?,
            Some(Event::Expired) => return same(watch.next().await, None, "the end"),
            other => return Err(format!("unexpected {other:?} before event {expected}").into()),
        }
    }
    Ok(())
}

/// Does one of everything, and says what a watcher must see of it.
async fn history(store: &Arc<dyn Store>) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut a = create(store, "a").await?;
    events.push(Event::Applied(a.clone()));
    a.spec = json!({ "n": 1 });
    a = store.put(a.clone(), unchanged(&a)).await?;
    events.push(Event::Applied(a.clone()));
    a.status = json!({ "ready": true });
    a = store.put_status(a.clone(), unchanged(&a)).await?;
    events.push(Event::Applied(a.clone()));
    let mut b = create_held(store, "b", &["x"]).await?;
    events.push(Event::Applied(b.clone()));
    events.extend(
        store
            .delete(&a.key(), Precondition::Present)
            .await?
            .map(Event::Deleted),
    );
    if let Some(asked) = store.delete(&b.key(), Precondition::Present).await? {
        b = asked;
    }
    events.push(Event::Applied(b.clone()));
    b.metadata.finalizers.clear();
    events.push(Event::Deleted(store.put(b.clone(), unchanged(&b)).await?));
    let again = application("a", json!({ "n": 2 }));
    events.push(Event::Applied(
        store.put(again, Precondition::Absent).await?,
    ));
    Ok(events)
}

fn revision(event: &Event) -> Option<Revision> {
    match event {
        Event::Applied(object) | Event::Deleted(object) => Some(object.metadata.revision),
        Event::Bookmark(_) | Event::Expired => None,
    }
}

fn count(object: &Object) -> i64 {
    object.spec["n"].as_i64().unwrap_or(-1)
}
