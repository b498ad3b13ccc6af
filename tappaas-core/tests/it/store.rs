use std::sync::Arc;

use futures::StreamExt;
use serde_json::json;
use tappaas_core::{
    Event, Kind, Metadata, Object, Precondition, Revision, Scope, Store, memory,
    object::API_VERSION,
};

tappaas_testkit::store_conformance!(Arc::new(store(memory::Store::HISTORY)));

fn store(history: usize) -> memory::Store {
    let (clock, ids) = (memory::Clock::new(), memory::Ids::new());
    memory::Store::with_history(Arc::new(clock), Arc::new(ids), history)
}

#[tokio::test]
async fn a_watch_from_forgotten_history_expires() {
    let store = store(3);
    let mut object = Object {
        api_version: API_VERSION.into(),
        kind: Kind::HostClaim,
        metadata: Metadata::new(&Scope::cluster(), "a"),
        spec: json!(0),
        status: json!(null),
    };
    object = store.put(object, Precondition::Absent).await.unwrap();
    for n in 1..=5 {
        object.spec = json!(n);
        object = store.put(object, Precondition::Present).await.unwrap();
    }
    let last = object.metadata.revision.counter();
    let watch = async |from| {
        store
            .watch(Kind::HostClaim, Revision::from_counter(from))
            .await
            .unwrap()
    };
    let events: Vec<_> = watch(last - 4).await.collect().await;
    assert_eq!(events, [Event::Expired]);
    let kept: Vec<_> = watch(last - 3).await.take(3).collect().await;
    let [.., Event::Applied(newest)] = &kept[..] else {
        panic!("{kept:?}");
    };
    assert_eq!(newest, &object);
    // What another kind forgot is nothing to this one.
    let mut volumes = watch_volumes(&store).await;
    assert!(futures::poll!(volumes.next()).is_pending());
}

async fn watch_volumes(store: &memory::Store) -> futures::stream::BoxStream<'static, Event> {
    store
        .watch(Kind::Volume, Revision::default())
        .await
        .unwrap()
}
