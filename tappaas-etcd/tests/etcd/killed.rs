//! etcd processes that are killed, or hang, while they are used.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures::StreamExt as _;
use serde_json::json;
use tappaas_core::{ErrorKind, Event, Kind, Object, Precondition, Revision, Store as _};
use tappaas_etcd::{Config, Keyspace};
use tappaas_testkit::conformance::{PATIENCE, until};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    etcd::Etcd,
    seat::{all, application, open, try_open},
};

const WRITERS: usize = 4;
/// Bookmarks come so often that they come between events.
const BOOKMARKS: &str = "--experimental-watch-progress-notify-interval=20ms";
/// How many writes are answered between two kills.
const BETWEEN: usize = 40;

/// What writers and a watcher know of each other.
#[derive(Default)]
struct Course {
    answered: AtomicUsize,
    over: AtomicBool,
}

/// Creates one object after the other until it is over, and returns those that were answered.
///
/// One whose fate is unknown is given up, so that no name is written twice.
async fn write(store: Keyspace, writer: usize, course: Arc<Course>) -> Vec<Object> {
    let mut answered = Vec::new();
    for n in 0.. {
        if course.over.load(Ordering::SeqCst) {
            break;
        }
        let object = application(&format!("a-{writer}-{n}"), json!({ "n": n }));
        match store.put(object, Precondition::Absent).await {
            Ok(object) => {
                course.answered.fetch_add(1, Ordering::SeqCst);
                answered.push(object);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                tokio::task::yield_now().await;
            }
        }
    }
    answered
}

fn writers(store: &Keyspace, course: &Arc<Course>) -> Vec<JoinHandle<Vec<Object>>> {
    (0..WRITERS)
        .map(|writer| tokio::spawn(write(store.clone(), writer, Arc::clone(course))))
        .collect()
}

/// One watch, from the beginning to an object called `last`.
async fn follow(store: Keyspace) -> BTreeMap<Revision, Object> {
    let watch = store.watch(Kind::Application, Revision::default()).await;
    let (mut watch, mut seen, mut at) = (watch.unwrap(), BTreeMap::new(), Revision::default());
    loop {
        match watch.next().await {
            Some(Event::Applied(object)) => {
                let revision = object.metadata.revision;
                assert!(revision > at, "{revision} came after {at}");
                at = revision;
                let is_last = object.metadata.name == "last";
                seen.insert(revision, object);
                if is_last {
                    return seen;
                }
            }
            Some(Event::Bookmark(revision)) => {
                assert!(revision >= at, "bookmark {revision} came after {at}");
                at = revision;
            }
            other => panic!("the watch came to {other:?} at {at}"),
        }
    }
}

async fn progress(course: &Course) {
    let enough = course.answered.load(Ordering::SeqCst) + BETWEEN;
    until("writes are answered", async || {
        Ok((course.answered.load(Ordering::SeqCst) >= enough).then_some(()))
    })
    .await
    .unwrap();
}

/// Holds what the store has and what the watcher saw against what was answered.
async fn verify(
    store: &Keyspace,
    course: &Course,
    writers: Vec<JoinHandle<Vec<Object>>>,
    watcher: JoinHandle<BTreeMap<Revision, Object>>,
) {
    course.over.store(true, Ordering::SeqCst);
    let mut answered = Vec::new();
    for writer in writers {
        answered.extend(writer.await.unwrap());
    }
    let last = application("last", json!({}));
    until("the last write is answered", async || {
        let written = store.put(last.clone(), Precondition::Absent).await;
        Ok(match written {
            Ok(_) => Some(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Some(()),
            Err(error) if error.kind() == ErrorKind::Unavailable => None,
            Err(error) => return Err(error.into()),
        })
    })
    .await
    .unwrap();
    let seen = watcher.await.unwrap();
    let mut kept = BTreeMap::new();
    let mut request = all();
    loop {
        let page = store.list(&request).await.unwrap();
        let objects = page.objects.into_iter();
        kept.extend(objects.map(|object| (object.metadata.revision, object)));
        request.after = page.next;
        if request.after.is_none() {
            break;
        }
    }
    for object in answered {
        let found = kept.get(&object.metadata.revision);
        assert_eq!(found, Some(&object), "an answered write is lost");
    }
    assert!(seen == kept, "the watch saw something else than there is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answered_write_is_lost_and_a_watch_goes_on_when_etcd_is_killed() {
    let etcd = Etcd::start(&[BOOKMARKS]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    let course = Arc::new(Course::default());
    let watcher = tokio::spawn(follow(store.clone()));
    let writers = writers(&store, &course);
    for _ in 0..3 {
        progress(&course).await;
        etcd.kill();
        etcd.restart().await;
    }
    progress(&course).await;
    verify(&store, &course, writers, watcher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_on_when_one_of_its_members_is_killed() {
    let members = Etcd::cluster(
        ["tappaas-one", "tappaas-two", "tappaas-three"],
        &[BOOKMARKS],
    )
    .await;
    let endpoints = members.each_ref().map(Etcd::endpoint);
    let store = open(&Config::new(endpoints, "/t")).await.unwrap();
    let course = Arc::new(Course::default());
    let watcher = tokio::spawn(follow(store.clone()));
    let writers = writers(&store, &course);
    // Each in turn, and so the one that is asked, and the one that leads.
    for member in &members {
        progress(&course).await;
        member.kill();
        progress(&course).await;
        member.restart().await;
    }
    verify(&store, &course, writers, watcher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_hangs_is_left() {
    let members = Etcd::cluster(["tappaas-one", "tappaas-two", "tappaas-three"], &[]).await;
    let endpoints = members.each_ref().map(Etcd::endpoint);
    let store = open(&Config::new(endpoints, "/t")).await.unwrap();
    let mut watch = store
        .watch(Kind::Application, Revision::default())
        .await
        .unwrap();
    // It is the one that is asked, and on which the watch is.
    members[0].pause();
    let object = application("a", json!({}));
    let made = until("another member answers", async || {
        Ok(
            match store.put(object.clone(), Precondition::Absent).await {
                Err(error) if error.kind() == ErrorKind::Unavailable => None,
                // An answer was lost.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    store.get(&object.key()).await?
                }
                done => Some(done?),
            },
        )
    });
    let made = made.await.unwrap();
    let told = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    assert_eq!(told, Some(Event::Applied(made)));
}

#[tokio::test]
async fn what_takes_connections_and_says_nothing_is_no_member() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let alone = Config::new([silent.clone()], "/t");
    let refused = try_open(&alone).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    assert!(
        refused.message().contains("no answer within"),
        "{refused:?}"
    );
    let etcd = Etcd::shared().await;
    let both = Config::new([silent, etcd.endpoint()], "/silent");
    open(&both).await.unwrap();
}
