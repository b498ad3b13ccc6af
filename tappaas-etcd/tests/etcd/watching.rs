//! Watches and listings over what etcd forgets.

use futures::{StreamExt as _, stream::BoxStream};
use serde_json::json;
use tappaas_core::{ErrorKind, Event, Kind, Precondition, Revision, Store as _};

use crate::{
    etcd::Etcd,
    seat::{all, application, create, open},
};

/// The next event that is no bookmark.
async fn next(watch: &mut BoxStream<'static, Event>) -> Option<Event> {
    loop {
        match watch.next().await {
            Some(Event::Bookmark(_)) => {}
            event => return event,
        }
    }
}

#[tokio::test]
async fn a_watch_from_before_a_compaction_expires_and_one_from_it_does_not() {
    let etcd = Etcd::start(&[]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    let first = create(&store, "a").await.unwrap();
    let second = create(&store, "b").await.unwrap();
    let third = create(&store, "c").await.unwrap();
    etcd.compact(second.metadata.revision.counter()).await;
    for forgotten in [Revision::default(), first.metadata.revision] {
        let mut watch = store.watch(Kind::Application, forgotten).await.unwrap();
        assert_eq!(watch.next().await, Some(Event::Expired), "{forgotten}");
        assert_eq!(watch.next().await, None);
    }
    let kept = second.metadata.revision;
    let mut watch = store.watch(Kind::Application, kept).await.unwrap();
    assert_eq!(next(&mut watch).await, Some(Event::Applied(third)));
}

#[tokio::test]
async fn a_removal_that_is_compacted_is_not_passed_over() {
    let etcd = Etcd::start(&[]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    let object = create(&store, "a").await.unwrap();
    let gone = store.delete(&object.key(), Precondition::Present).await;
    let gone = gone.unwrap().unwrap();
    create(&store, "b").await.unwrap();
    etcd.compact(gone.metadata.revision.counter()).await;
    let from = object.metadata.revision;
    let mut watch = store.watch(Kind::Application, from).await.unwrap();
    assert_eq!(watch.next().await, Some(Event::Expired));
}

#[tokio::test]
async fn a_watch_that_keeps_up_goes_on_over_a_compaction() {
    let etcd = Etcd::start(&[]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    let mut watch = store
        .watch(Kind::Application, Revision::default())
        .await
        .unwrap();
    for name in ["a", "b", "c"] {
        let made = create(&store, name).await.unwrap();
        let revision = made.metadata.revision.counter();
        assert_eq!(next(&mut watch).await, Some(Event::Applied(made)));
        etcd.compact(revision).await;
    }
}

#[tokio::test]
async fn a_quiet_watch_is_told_where_it_is() {
    let etcd = Etcd::start(&["--experimental-watch-progress-notify-interval=100ms"]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    let start = store.list(&all()).await.unwrap().revision;
    let mut watch = store.watch(Kind::Volume, start).await.unwrap();
    // Of another kind.
    let made = create(&store, "a").await.unwrap();
    loop {
        let Some(Event::Bookmark(reached)) = watch.next().await else {
            panic!("something else than a bookmark came");
        };
        if reached >= made.metadata.revision {
            break;
        }
    }
}

#[tokio::test]
async fn a_watch_that_missed_a_compaction_while_etcd_was_down_expires() {
    let etcd = Etcd::start(&[]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    let first = create(&store, "a").await.unwrap();
    let mut watch = store
        .watch(Kind::Application, Revision::default())
        .await
        .unwrap();
    assert_eq!(next(&mut watch).await, Some(Event::Applied(first)));
    etcd.kill();
    etcd.restart().await;
    let store = open(&etcd.config("/t")).await.unwrap();
    create(&store, "b").await.unwrap();
    let last = create(&store, "c").await.unwrap();
    etcd.compact(last.metadata.revision.counter()).await;
    assert_eq!(next(&mut watch).await, Some(Event::Expired));
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_page_after_a_compaction_expires() {
    let etcd = Etcd::start(&[]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    for name in ["a", "b", "c"] {
        create(&store, name).await.unwrap();
    }
    let mut request = all();
    request.limit = 1;
    request.after = store.list(&request).await.unwrap().next;
    assert_eq!(store.list(&request).await.unwrap().objects.len(), 1);
    let last = create(&store, "d").await.unwrap();
    etcd.compact(last.metadata.revision.counter()).await;
    let refused = store.list(&request).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Expired, "{refused:?}");
}

#[tokio::test]
async fn a_listing_of_large_objects_comes_in_pages_that_fit() {
    const COUNT: usize = 40;
    let etcd = Etcd::start(&[]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    let large = json!("x".repeat(1_000_000));
    for n in 0..COUNT {
        let object = application(&format!("a-{n:02}"), large.clone());
        store.put(object, Precondition::Absent).await.unwrap();
    }
    let (mut request, mut names) = (all(), Vec::new());
    loop {
        let page = store.list(&request).await.unwrap();
        names.extend(page.objects.into_iter().map(|object| object.metadata.name));
        request.after = page.next;
        if request.after.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (0..COUNT).map(|n| format!("a-{n:02}")).collect();
    assert_eq!(names, expected);
    // What was missed meanwhile comes in pieces that fit as well.
    let mut watch = store
        .watch(Kind::Application, Revision::default())
        .await
        .unwrap();
    for name in expected {
        let Some(Event::Applied(object)) = next(&mut watch).await else {
            panic!("the watch ended before {name}");
        };
        assert_eq!(object.metadata.name, name);
    }
}
