use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, future::join_all};
use redb::{StorageBackend, backends::InMemoryBackend};
use serde_json::json;
use tappaas_core::{
    Chain, Clock, ErrorKind, Event, Kind, Precondition, Revision, Store, Timestamp, memory,
};
use tappaas_store::{Embedded, Limits};

use crate::fixture::{application, create};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_disk_is_full_says_so_and_goes_on_when_there_is_room() {
    let disk = Disk::default();
    let clock = Arc::new(Steps::default());
    let store = disk.open(clock.clone());
    let kept = create(&store, "kept").await;
    let mut watch = store
        .watch(Kind::Application, Revision::default())
        .await
        .unwrap();
    assert_eq!(watch.next().await, Some(Event::Applied(kept.clone())));

    disk.0.full.store(true, Ordering::SeqCst);
    let writes = (0..20).map(|n| {
        store.put(
            application(&format!("a-{n}"), json!("x".repeat(50_000))),
            Precondition::Absent,
        )
    });
    for answer in join_all(writes).await {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(Chain(&error).to_string().contains("free some"), "{error:?}");
    }
    assert_eq!(watch.next().await, None);
    let error = Store::get(&store, &kept.key()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        Chain(&error)
            .to_string()
            .contains("the store stopped after a failure"),
        "{error:?}"
    );

    disk.0.full.store(false, Ordering::SeqCst);
    let early = store
        .put(application("early", json!(1)), Precondition::Absent)
        .await
        .unwrap_err();
    assert!(early.message().contains("did not happen"), "{early:?}");
    clock.0.fetch_add(5, Ordering::SeqCst);
    let next = create(&store, "next").await;
    assert_eq!(
        Store::get(&store, &kept.key()).await.unwrap(),
        Some(kept.clone())
    );
    assert!(next.metadata.revision > kept.metadata.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_alone_opens_a_stopped_store_again() {
    let disk = Disk::default();
    let clock = Arc::new(Steps::default());
    let store = disk.open(clock.clone());
    let kept = create(&store, "kept").await;
    disk.0.full.store(true, Ordering::SeqCst);
    store
        .put(
            application("lost", json!("x".repeat(50_000))),
            Precondition::Absent,
        )
        .await
        .unwrap_err();
    disk.0.full.store(false, Ordering::SeqCst);
    clock.0.fetch_add(5, Ordering::SeqCst);
    let opened = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Ok(found) = Store::get(&store, &kept.key()).await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(opened.await.unwrap(), Some(kept));
}

/// A disk in memory that can be full. Clones are the same disk.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Storage>);

#[derive(Debug, Default)]
struct Storage {
    memory: InMemoryBackend,
    full: AtomicBool,
}

impl Disk {
    fn open(&self, clock: Arc<dyn Clock>) -> Embedded {
        let disk = self.clone();
        let ids = Arc::new(memory::Ids::new());
        Embedded::with_backend(move || Ok(disk.clone()), Limits::default(), clock, ids).unwrap()
    }

    fn room(&self) -> io::Result<()> {
        match self.0.full.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.0.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.memory.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.room()?;
        self.0.memory.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.0.memory.write(offset, data)
    }
}

/// A clock that stands still until it is moved by whole seconds.
#[derive(Debug, Default)]
struct Steps(AtomicU64);

#[async_trait]
impl Clock for Steps {
    fn now(&self) -> Timestamp {
        let seconds = i64::try_from(self.0.load(Ordering::SeqCst)).unwrap();
        Timestamp::from_second(seconds).unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
