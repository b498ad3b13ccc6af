use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use futures::StreamExt as _;
use tappaas_core::{
    Batch, Durable, ErrorKind, Result, Row,
    backend::{Builder as _, Reference, Registry as _},
};
use tappaas_local::Builder;
use tokio::task::JoinHandle;

use super::bench::{Bench, id, repository, request, shell, text, until};

/// Never ends by itself, but ends well the second time.
const HANGS_ONCE: &str =
    "test -e /cache/mark && echo again || { touch /cache/mark; echo hanging; sleep 300; }";

fn build(
    builder: &Arc<Builder>,
    request: tappaas_core::backend::BuildRequest,
) -> JoinHandle<Result<tappaas_core::backend::BuildOutcome>> {
    let builder = Arc::clone(builder);
    tokio::spawn(async move { builder.build(&request).await })
}

/// Waits until a build has written `line`.
async fn wait_for_line(builder: &Builder, build: &str, line: &str) {
    let written = || async {
        let Ok(mut lines) = builder.logs(&id(build), false).await else {
            return false;
        };
        while let Some(Ok(found)) = lines.next().await {
            if found.text == line {
                return true;
            }
        }
        false
    };
    until(line, written).await;
}

#[tokio::test]
async fn nothing_is_built_again_when_nothing_changed() {
    let bench = Bench::new().await;
    let source = bench.upload(&[("index.html", "one")]).await;
    let builder = bench.builder().await;
    let first = builder
        .build(&request("1", "app", source.clone()))
        .await
        .unwrap();
    let second = builder
        .build(&request("2", "app", source.clone()))
        .await
        .unwrap();
    assert_eq!(
        (first.cached, second.cached, &second.image),
        (false, true, &first.image)
    );
    assert_eq!(text(&builder, "2").await, text(&builder, "1").await);
    builder.close().await;
    let builder = bench.builder().await;
    assert!(
        builder
            .build(&request("3", "app", source.clone()))
            .await
            .unwrap()
            .cached
    );

    let mut again = request("4", "app", source.clone());
    again.spec.attempt = 1;
    let again = builder.build(&again).await.unwrap();
    assert_eq!((again.cached, &again.image), (false, &first.image));
    let mut elsewhere = request("5", "app", source.clone());
    elsewhere.repository = "default/default/staging/app".parse().unwrap();
    assert!(!builder.build(&elsewhere).await.unwrap().cached);
    let other = bench.upload(&[("index.html", "two")]).await;
    assert_ne!(
        builder
            .build(&request("6", "app", other))
            .await
            .unwrap()
            .image,
        first.image
    );

    bench
        .registry
        .delete(
            &repository(),
            &Reference::Digest(first.image.digest.clone()),
        )
        .await
        .unwrap();
    let rebuilt = builder.build(&request("7", "app", source)).await.unwrap();
    assert_eq!((rebuilt.cached, &rebuilt.image), (false, &first.image));
}

#[tokio::test]
async fn requests_of_one_key_share_one_build() {
    let bench = Bench::new().await;
    let source = bench.upload(&[("Procfile", "web: true\n")]).await;
    let builder = Arc::new(bench.builder().await);
    let line = "echo begun; sleep 1; echo over";
    let first = build(&builder, shell("1", source.clone(), line));
    wait_for_line(&builder, "1", "begun").await;
    let second = build(&builder, shell("2", source, line));
    until("both are listed", || async {
        builder.list().await.unwrap() == [id("1"), id("2")]
    })
    .await;
    let (first, second) = (
        first.await.unwrap().unwrap(),
        second.await.unwrap().unwrap(),
    );
    assert_eq!(first, second);
    let log = text(&builder, "2").await;
    assert_eq!(
        (text(&builder, "1").await, log.matches("begun\n").count()),
        (log.clone(), 1),
        "{log}"
    );
    assert!(builder.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_cancelled_build_ends_unless_somebody_else_wants_it() {
    let bench = Bench::new().await;
    let source = bench.upload(&[("Procfile", "web: true\n")]).await;
    let builder = Arc::new(bench.builder().await);
    let line = "echo begun; sleep 300";
    let first = build(&builder, shell("1", source.clone(), line));
    wait_for_line(&builder, "1", "begun").await;
    let second = build(&builder, shell("2", source.clone(), line));
    until("both are listed", || async {
        builder.list().await.unwrap().len() == 2
    })
    .await;
    builder.cancel(&id("1")).await.unwrap();
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Conflict, "build 1 was cancelled")
    );
    assert_eq!(builder.list().await.unwrap(), [id("2")]);
    assert!(!second.is_finished());
    builder.cancel(&id("2")).await.unwrap();
    assert_eq!(
        second.await.unwrap().unwrap_err().kind(),
        ErrorKind::Conflict
    );
    builder.cancel(&id("2")).await.unwrap();
    builder.cancel(&id("unknown")).await.unwrap();
    // The same key again is neither the old build nor stuck behind it.
    let third = build(&builder, shell("3", source, line));
    wait_for_line(&builder, "3", "begun").await;
    assert_eq!(builder.list().await.unwrap(), [id("3")]);
    builder.cancel(&id("3")).await.unwrap();
    assert_eq!(
        third.await.unwrap().unwrap_err().kind(),
        ErrorKind::Conflict
    );
}

#[tokio::test]
async fn a_cancelled_request_never_begins() {
    let bench = Bench::new().await;
    let source = bench.upload(&[("Procfile", "web: true\n")]).await;
    let builder = Arc::new(bench.builder().await);
    let running = build(
        &builder,
        shell("1", source.clone(), "echo begun; sleep 300"),
    );
    wait_for_line(&builder, "1", "begun").await;
    let waiting = build(&builder, shell("2", source, "echo never"));
    until("both are listed", || async {
        builder.list().await.unwrap().len() == 2
    })
    .await;
    builder.cancel(&id("2")).await.unwrap();
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert!(!text(&builder, "2").await.contains("echo never"));
    builder.cancel(&id("1")).await.unwrap();
    assert!(running.await.unwrap().is_err());
}

#[tokio::test]
async fn followers_of_a_log_see_each_line_and_its_end() {
    let bench = Bench::new().await;
    let source = bench.upload(&[("Procfile", "web: true\n")]).await;
    let builder = Arc::new(bench.builder().await);
    let running = build(&builder, shell("1", source, "echo one; sleep 1; echo two"));
    wait_for_line(&builder, "1", "one").await;
    let log = text(&builder, "1").await;
    running.await.unwrap().unwrap();
    assert!(
        log.contains("build: one\nbuild: two\n") && log.contains("build: built default"),
        "{log}"
    );
    let error = builder.logs(&id("unknown"), true).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_a_closed_builder_was_building_is_begun_again() {
    let bench = Bench::new().await;
    let source = bench.upload(&[("Procfile", "web: true\n")]).await;
    let builder = Arc::new(bench.builder().await);
    let running = build(&builder, shell("1", source.clone(), HANGS_ONCE));
    wait_for_line(&builder, "1", "hanging").await;
    let waiting = build(&builder, shell("2", source.clone(), "echo waited"));
    until("both are listed", || async {
        builder.list().await.unwrap().len() == 2
    })
    .await;
    builder.close().await;
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(waiting.await.unwrap().is_err());
    drop(builder);

    let builder = bench.builder().await;
    assert_eq!(builder.list().await.unwrap(), [id("1"), id("2")]);
    // Asking again attaches to what was begun by itself.
    builder
        .build(&shell("1", source.clone(), HANGS_ONCE))
        .await
        .unwrap();
    let log = text(&builder, "1").await;
    assert!(
        log.contains("the server was started anew; so is this build") && log.contains("again"),
        "{log}"
    );
    assert!(text(&builder, "2").await.contains("waited"));
    assert!(
        builder
            .build(&shell("2", source, "echo waited"))
            .await
            .unwrap()
            .cached
    );
    assert!(builder.list().await.unwrap().is_empty());
}

/// A memory that stops taking anything in, like that of a process that was killed.
#[derive(Debug)]
struct Stopped {
    inner: Arc<dyn Durable>,
    stopped: AtomicBool,
}

#[async_trait]
impl Durable for Stopped {
    async fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.inner.get(table, key).await
    }

    async fn scan(
        &self,
        table: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        self.inner.scan(table, prefix, after, limit).await
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        match self.stopped.load(Ordering::Acquire) {
            true => Ok(()),
            false => self.inner.commit(batch).await,
        }
    }
}

#[tokio::test]
async fn a_build_that_takes_the_server_down_each_time_is_given_up() {
    let mut bench = Bench::new().await;
    let source = bench.upload(&[("Procfile", "web: true\n")]).await;
    let inner = Arc::clone(&bench.parts.durable);
    for round in 0..4 {
        let durable = Arc::new(Stopped {
            inner: Arc::clone(&inner),
            stopped: AtomicBool::new(false),
        });
        bench.parts.durable = Arc::clone(&durable) as Arc<dyn Durable>;
        let builder = Arc::new(bench.builder().await);
        if round == 0 {
            drop(build(
                &builder,
                shell("1", source.clone(), "echo hanging; sleep 300"),
            ));
        }
        wait_for_line(&builder, "1", "hanging").await;
        durable.stopped.store(true, Ordering::Release);
        builder.close().await;
    }
    bench.parts.durable = inner;
    let builder = bench.builder().await;
    assert!(builder.list().await.unwrap().is_empty());
    let error = builder
        .build(&shell("1", source, "echo hanging; sleep 300"))
        .await
        .unwrap_err();
    assert!(
        error
            .message()
            .contains("ended 3 times while this build ran"),
        "{error}"
    );
}

#[tokio::test]
async fn old_logs_and_caches_are_deleted() {
    let mut bench = Bench::new().await;
    bench.config.logs = 2;
    bench.config.caches = tappaas_core::manifest::Bytes(0);
    let builder = bench.builder().await;
    for number in 1..=4 {
        let source = bench.upload(&[("index.html", &number.to_string())]).await;
        builder
            .build(&request(&number.to_string(), "app", source))
            .await
            .unwrap();
    }
    let count = |folder: &str| {
        std::fs::read_dir(bench.config.data_dir.join(folder))
            .unwrap()
            .count()
    };
    until("logs and caches are deleted", || async {
        (count("log"), count("disk")) == (2, 0)
    })
    .await;
    assert_eq!(
        builder.logs(&id("1"), false).await.err().unwrap().kind(),
        ErrorKind::NotFound
    );
    assert!(text(&builder, "4").await.contains("static site"));
    assert_eq!(count("tmp"), 0);
}
