use std::sync::Arc;

use futures::future::join_all;
use serde_json::json;
use tappaas_core::{Error, ErrorKind, Event, Kind, Object, Precondition, Result, Revision, Store};

use super::fixture::{Watch, application, create, now, unchanged};
use crate::conformance::verdict::{Verdict, holds, refused, same};

const WRITERS: u64 = 8;

/// Of concurrent writers that expect nothing to be there exactly one succeeds.
pub async fn of_concurrent_creators_one_succeeds(store: Arc<dyn Store>) -> Verdict {
    for round in 0..5 {
        let attempts = (0..WRITERS).map(|writer| {
            let object = application(&format!("a-{round}"), json!({ "writer": writer }));
            let store = store.clone();
            tokio::spawn(async move { store.put(object, Precondition::Absent).await })
        });
        let mut kept = None;
        for result in join_all(attempts).await {
            match result? {
                Ok(object) => same(kept.replace(object), None, "a second winner")?,
                lost => refused(
                    lost,
                    ErrorKind::AlreadyExists,
                    "a creator that came too late",
                )?,
            }
        }
        let kept = kept.ok_or("nobody succeeded")?;
        same(
            store.get(&kept.key()).await?,
            Some(kept),
            "what is read back",
        )?;
    }
    Ok(())
}

/// Of concurrent writers with the same expected revision exactly one succeeds: a counter that all raise by compare-and-swap counts every
/// success, and a watcher sees each value once, in order.
pub async fn of_concurrent_writers_one_succeeds_at_each_revision(store: Arc<dyn Store>) -> Verdict {
    const EACH: u64 = 10;
    let first = create(&store, "counter").await?;
    let mut watch = Watch::from(&store, Kind::Application, first.metadata.revision).await?;
    let writers = (0..WRITERS).map(|_| tokio::spawn(raise(store.clone(), first.clone(), EACH)));
    for writer in join_all(writers).await {
        writer??;
    }
    let last = store
        .get(&first.key())
        .await?
        .ok_or("the counter is gone")?;
    same(&last.spec, &json!({ "n": WRITERS * EACH }), "the counter")?;
    let mut before = first.metadata.revision;
    for n in 1..=WRITERS * EACH {
        let Some(Event::Applied(object)) = watch.next().await else {
            return Err(format!("the watch has no value {n}").into());
        };
        same(&object.spec, &json!({ "n": n }), "the next value")?;
        same(object.metadata.generation, n + 1, "its generation")?;
        holds(object.metadata.revision > before, "revisions do not rise")?;
        before = object.metadata.revision;
    }
    same(before, last.metadata.revision, "the last revision")
}

/// All watchers see the same changes in the same order, and every answered write among them.
pub async fn concurrent_watchers_see_one_history(store: Arc<dyn Store>) -> Verdict {
    const EACH: u64 = 10;
    let start = now(&store, Kind::Application).await?;
    let watchers: Vec<_> = (0..4)
        .map(|_| tokio::spawn(follow(store.clone(), start, WRITERS * EACH)))
        .collect();
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut answered = Vec::new();
            for n in 0..EACH {
                let object = create(&store, &format!("a-{writer}-{n}")).await?;
                answered.push((object.metadata.revision, object.metadata.name));
            }
            Ok::<_, Error>(answered)
        })
    });
    let mut answered = Vec::new();
    for writer in join_all(writers).await {
        answered.extend(writer??);
    }
    answered.sort();
    for watcher in watchers {
        same(watcher.await??, answered.clone(), "what a watcher saw")?;
    }
    Ok(())
}

/// Raises a counter so many times, reading again whenever somebody else was quicker.
async fn raise(store: Arc<dyn Store>, mut counter: Object, times: u64) -> Result<()> {
    let mut left = times;
    while left > 0 {
        let n = counter.spec["n"].as_u64().unwrap_or_default() + 1;
        let raised = Object {
            spec: json!({ "n": n }),
            ..counter.clone()
        };
        match store.put(raised, unchanged(&counter)).await {
            Ok(written) => {
                counter = written;
                left -= 1;
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                counter = store.get(&counter.key()).await?.unwrap_or(counter);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn follow(
    store: Arc<dyn Store>,
    from: Revision,
    events: u64,
) -> Result<Vec<(Revision, String)>> {
    let mut watch = Watch::from(&store, Kind::Application, from).await?;
    let mut seen = Vec::new();
    for _ in 0..events {
        if let Some(Event::Applied(object)) = watch.next().await {
            seen.push((object.metadata.revision, object.metadata.name));
        }
    }
    Ok(seen)
}
