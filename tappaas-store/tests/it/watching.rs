use futures::{StreamExt, poll};
use serde_json::json;
use tappaas_core::{ErrorKind, Event, Kind, ListRequest, Precondition, Revision, Scope, Store};

use crate::fixture::{application, create, directory, fresh, open};

#[tokio::test]
async fn a_watch_goes_on_after_a_restart_from_where_it_was() {
    let directory = directory();
    let store = open(directory.path()).unwrap();
    let first = create(&store, "a").await;
    let second = create(&store, "b").await;
    let mut watch = store
        .watch(Kind::Application, Revision::default())
        .await
        .unwrap();
    assert_eq!(watch.next().await, Some(Event::Applied(first.clone())));
    drop(store);
    let store = open(directory.path()).unwrap();
    // What it had read it still yields; then it ends, for it belongs to a store that is closed.
    assert_eq!(watch.next().await, Some(Event::Applied(second.clone())));
    assert_eq!(watch.next().await, None);
    let mut watch = store
        .watch(Kind::Application, first.metadata.revision)
        .await
        .unwrap();
    assert_eq!(watch.next().await, Some(Event::Applied(second)));
    let gone = store
        .delete(&first.key(), Precondition::Present)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(watch.next().await, Some(Event::Deleted(gone)));
}

#[tokio::test]
async fn a_waiting_watcher_ends_with_its_store() {
    let store = fresh();
    let mut watch = store
        .watch(Kind::Application, Revision::default())
        .await
        .unwrap();
    assert!(poll!(watch.next()).is_pending());
    drop(store);
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn revisions_rise_over_restarts_also_when_everything_is_deleted_and_forgotten() {
    let directory = directory();
    let store = open(directory.path()).unwrap();
    let object = create(&store, "a").await;
    let gone = store
        .delete(&object.key(), Precondition::Present)
        .await
        .unwrap()
        .unwrap();
    store.compact(0).await.unwrap();
    drop(store);
    let store = open(directory.path()).unwrap();
    let next = create(&store, "a").await;
    assert!(next.metadata.revision > gone.metadata.revision);
}

#[tokio::test]
async fn only_the_latest_listings_stay_open() {
    let store = fresh();
    for name in ["a", "b", "c"] {
        store
            .put(application(name, json!(1)), Precondition::Absent)
            .await
            .unwrap();
    }
    let mut first = ListRequest::new(Kind::Application, Scope::cluster());
    first.limit = 1;
    first.after = store.list(&first).await.unwrap().next;
    for _ in 0..15 {
        let other = ListRequest {
            after: None,
            ..first.clone()
        };
        store.list(&other).await.unwrap();
    }
    assert_eq!(store.list(&first).await.unwrap().objects.len(), 1);
    let one_more = ListRequest {
        after: None,
        ..first.clone()
    };
    store.list(&one_more).await.unwrap();
    assert_eq!(
        store.list(&first).await.unwrap_err().kind(),
        ErrorKind::Expired
    );
}

#[tokio::test]
async fn a_cursor_belongs_to_its_listing_and_its_store() {
    let directory = directory();
    let store = open(directory.path()).unwrap();
    for name in ["a", "b"] {
        store
            .put(application(name, json!(1)), Precondition::Absent)
            .await
            .unwrap();
    }
    let mut request = ListRequest::new(Kind::Application, Scope::cluster());
    request.limit = 1;
    request.after = store.list(&request).await.unwrap().next;
    let other = ListRequest {
        kind: Kind::Volume,
        ..request.clone()
    };
    assert_eq!(
        store.list(&other).await.unwrap_err().kind(),
        ErrorKind::Invalid
    );
    drop(store);
    let store = open(directory.path()).unwrap();
    assert_eq!(
        store.list(&request).await.unwrap_err().kind(),
        ErrorKind::Expired
    );
}
