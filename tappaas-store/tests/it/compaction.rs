use std::sync::Arc;

use futures::{StreamExt, poll};
use serde_json::json;
use tappaas_core::{Event, Kind, Object, Precondition, Revision, Store, memory};
use tappaas_store::{Embedded, Limits};

use crate::fixture::{application, directory, fresh, open, open_with};

#[tokio::test]
async fn the_history_is_bounded_and_survives_a_restart() {
    let directory = directory();
    let limits = Limits {
        history_changes: 10,
        ..Limits::default()
    };
    let ids = Arc::new(memory::Ids::new());
    let store = open_with(directory.path(), limits, ids.clone()).unwrap();
    let last = write(&store, 25).await;
    assert_history(&store, last, 10).await;
    drop(store);
    let store = open_with(directory.path(), limits, ids).unwrap();
    assert_history(&store, last, 10).await;
}

#[tokio::test]
async fn the_history_is_bounded_in_bytes() {
    let directory = directory();
    let limits = Limits {
        history_bytes: 30_000,
        ..Limits::default()
    };
    let store = open_with(directory.path(), limits, Arc::new(memory::Ids::new())).unwrap();
    let mut last = 0;
    for n in 0..50 {
        let large = application("a", json!({ "n": n, "filler": "x".repeat(10_000 - 500) }));
        let precondition = if n == 0 {
            Precondition::Absent
        } else {
            Precondition::Present
        };
        last = store
            .put(large, precondition)
            .await
            .unwrap()
            .metadata
            .revision
            .counter();
    }
    assert_history(&store, last, 3).await;
}

#[tokio::test]
async fn compaction_forgets_the_oldest_changes_and_expires_their_watchers() {
    let store = fresh();
    let last = write(&store, 700).await;
    let mut behind = store
        .watch(Kind::Application, Revision::default())
        .await
        .unwrap();
    store.compact(20).await.unwrap();
    assert_eq!(behind.next().await, Some(Event::Expired));
    assert_eq!(behind.next().await, None);
    assert_history(&store, last, 20).await;
    store.compact(0).await.unwrap();
    assert_history(&store, last, 0).await;
    let mut live = store
        .watch(Kind::Application, Revision::from_counter(last))
        .await
        .unwrap();
    let next = store
        .put(application("a", json!("next")), Precondition::Present)
        .await
        .unwrap();
    assert_eq!(live.next().await, Some(Event::Applied(next)));
}

#[tokio::test]
async fn compaction_of_one_kind_expires_no_other() {
    let store = fresh();
    write(&store, 50).await;
    store.compact(0).await.unwrap();
    let mut volumes = store
        .watch(Kind::Volume, Revision::default())
        .await
        .unwrap();
    assert!(poll!(volumes.next()).is_pending());
}

#[tokio::test]
async fn a_store_shrinks_and_serves_on() {
    let directory = directory();
    let store = open(directory.path()).unwrap();
    let mut kept = Vec::new();
    for n in 0..200 {
        let object = application(&format!("a-{n}"), json!("x".repeat(20_000)));
        kept.push(store.put(object, Precondition::Absent).await.unwrap());
    }
    for object in kept.split_off(10) {
        store
            .delete(&object.key(), Precondition::Present)
            .await
            .unwrap();
    }
    store.compact(5).await.unwrap();
    // An open listing holds on to the file, and must not keep it from shrinking.
    let mut request =
        tappaas_core::ListRequest::new(Kind::Application, tappaas_core::Scope::cluster());
    request.limit = 2;
    request.after = store.list(&request).await.unwrap().next;
    let size = || {
        directory
            .path()
            .join("store-1.redb")
            .metadata()
            .unwrap()
            .len()
    };
    let before = size();
    assert!(store.shrink().await.unwrap());
    assert!(size() < before / 2, "{before} bytes shrank to {}", size());
    let error = store.list(&request).await.unwrap_err();
    assert_eq!(error.kind(), tappaas_core::ErrorKind::Expired);
    for object in kept {
        assert_eq!(
            Store::get(&store, &object.key()).await.unwrap().as_ref(),
            Some(&object)
        );
        store.put(object, Precondition::Present).await.unwrap();
    }
}

/// Writes one object so many times, and returns the last revision.
async fn write(store: &Embedded, times: u64) -> u64 {
    let mut object = store
        .put(application("a", json!(0)), Precondition::Absent)
        .await
        .unwrap();
    for n in 1..times {
        object = Object {
            spec: json!(n),
            ..object
        };
        object = store.put(object, Precondition::Present).await.unwrap();
    }
    object.metadata.revision.counter()
}

/// The history has the last `kept` changes up to `last`, and no more.
async fn assert_history(store: &Embedded, last: u64, kept: u64) {
    let watch = async |from| {
        store
            .watch(Kind::Application, Revision::from_counter(from))
            .await
            .unwrap()
    };
    let mut events = watch(last - kept).await;
    for revision in last - kept + 1..=last {
        let Some(Event::Applied(object)) = events.next().await else {
            panic!("no change {revision}");
        };
        assert_eq!(object.metadata.revision, Revision::from_counter(revision));
    }
    assert!(poll!(events.next()).is_pending());
    let earlier: Vec<_> = watch(last - kept - 1).await.collect().await;
    assert_eq!(earlier, [Event::Expired]);
}
