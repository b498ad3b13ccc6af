//! The contract of [`Durable`], sentence by sentence. Each case expects empty tables.

use std::sync::Arc;

use futures::future::join_all;
use tappaas_core::{Batch, Durable, ErrorKind, Row};

use super::verdict::{Verdict, holds, refused, same};

const TABLE: &str = "conformance";
const OTHER: &str = "conformance-other";

/// Runs every case of [`conformance::durable`](crate::conformance::durable), each as a test of its own on a fresh `Arc<dyn Durable>`.
///
/// The expression may await. The calling crate needs `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! durable_conformance {
    ($fresh:expr) => {
        $crate::durable_conformance! { @cases $fresh =>
            a_table_that_was_never_written_is_empty
            the_last_write_to_a_row_stays
            a_scan_is_ordered_and_keeps_to_its_prefix
            a_scan_goes_on_after_any_key
            a_scan_returns_at_most_its_limit
            keys_and_values_may_be_any_bytes
            a_failed_check_writes_nothing
            checks_see_presence_absence_and_value
            of_concurrent_commits_one_succeeds
            concurrent_readers_see_whole_batches
            an_empty_batch_succeeds
            bad_names_and_large_batches_are_refused
        }
    };
    (@cases $fresh:expr => $($case:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let durable: std::sync::Arc<dyn tappaas_core::Durable> = $fresh;
                $crate::conformance::durable::$case(durable).await.unwrap();
            }
        )+
    };
}

/// A table exists as soon as it is named; one that was never written is empty.
pub async fn a_table_that_was_never_written_is_empty(durable: Arc<dyn Durable>) -> Verdict {
    same(durable.get(TABLE, b"a").await?, None, "a row")?;
    same(durable.scan(TABLE, b"", None, 9).await?, vec![], "all rows")?;
    durable.commit(Batch::new().delete(TABLE, b"a")).await?;
    durable
        .commit(Batch::new().check(TABLE, b"a", None))
        .await?;
    same(durable.scan(TABLE, b"", None, 9).await?, vec![], "all rows")
}

/// The writes of a batch happen in order: the last one to a row stays. Reads see what the last answered commit left.
pub async fn the_last_write_to_a_row_stays(durable: Arc<dyn Durable>) -> Verdict {
    let batch = Batch::new().put(TABLE, b"a", b"1").put(TABLE, b"a", b"2");
    let batch = batch.put(TABLE, b"b", b"1").delete(TABLE, b"b");
    durable
        .commit(batch.delete(TABLE, b"c").put(TABLE, b"c", b"3"))
        .await?;
    let rows = durable.scan(TABLE, b"", None, 9).await?;
    same(rows, vec![row("a", "2"), row("c", "3")], "rows")?;
    durable.commit(Batch::new().put(TABLE, b"a", b"4")).await?;
    same(
        durable.get(TABLE, b"a").await?,
        Some(b"4".to_vec()),
        "row `a`",
    )?;
    durable.commit(Batch::new().delete(TABLE, b"a")).await?;
    same(durable.get(TABLE, b"a").await?, None, "row `a`")
}

/// `scan` returns the rows whose keys begin with `prefix`, in order of their keys.
pub async fn a_scan_is_ordered_and_keeps_to_its_prefix(durable: Arc<dyn Durable>) -> Verdict {
    let mut batch = Batch::new().put(OTHER, b"ab", b"elsewhere");
    for key in ["b", "ab/2", "aa", "ab/10", "ab", "abc", "a"] {
        batch = batch.put(TABLE, key.as_bytes(), key.as_bytes());
    }
    durable
        .commit(batch.put(TABLE, b"\xff\xff", b"last"))
        .await?;
    same(
        keys(&durable, b"ab", None, 9).await?,
        ["ab", "ab/10", "ab/2", "abc"].map(bytes).to_vec(),
        "prefix `ab`",
    )?;
    same(
        keys(&durable, b"\xff", None, 9).await?,
        vec![b"\xff\xff".to_vec()],
        "prefix 0xff",
    )?;
    same(keys(&durable, b"zz", None, 9).await?, vec![], "prefix `zz`")?;
    same(keys(&durable, b"", None, 99).await?.len(), 8, "all rows")
}

/// `scan` begins right after `after`, whether or not that row is there.
pub async fn a_scan_goes_on_after_any_key(durable: Arc<dyn Durable>) -> Verdict {
    let batch = Batch::new()
        .put(TABLE, b"p1", b"")
        .put(TABLE, b"p3", b"")
        .put(TABLE, b"p5", b"");
    durable.commit(batch.put(TABLE, b"q", b"")).await?;
    let all = || ["p1", "p3", "p5"].map(bytes).to_vec();
    same(
        keys(&durable, b"p", Some(b"p1"), 9).await?,
        all()[1..].to_vec(),
        "after `p1`",
    )?;
    same(
        keys(&durable, b"p", Some(b"p2"), 9).await?,
        all()[1..].to_vec(),
        "after `p2`",
    )?;
    same(
        keys(&durable, b"p", Some(b"a"), 9).await?,
        all(),
        "after what lies before the prefix",
    )?;
    same(
        keys(&durable, b"p", Some(b"p5"), 9).await?,
        vec![],
        "after the last",
    )?;
    same(
        keys(&durable, b"p", Some(b"z"), 9).await?,
        vec![],
        "after what lies behind the prefix",
    )
}

/// `scan` returns at most `limit` rows, and fewer only if there are no more.
pub async fn a_scan_returns_at_most_its_limit(durable: Arc<dyn Durable>) -> Verdict {
    let names: Vec<_> = (0..300).map(|i| format!("{i:03}")).collect();
    let batch = names.iter().fold(Batch::new(), |batch, name| {
        batch.put(TABLE, name.as_bytes(), b"v")
    });
    durable.commit(batch).await?;
    let mut found = Vec::new();
    loop {
        let after: Option<Vec<u8>> = found.last().cloned();
        let page = keys(&durable, b"", after.as_deref(), 7).await?;
        holds(page.len() <= 7, "a scan returned more than its limit")?;
        holds(
            page.len() == 7 || found.len() + page.len() == 300,
            "a scan ended early",
        )?;
        if page.is_empty() {
            break;
        }
        found.extend(page);
    }
    same(
        found,
        names.iter().map(|name| bytes(name)).collect(),
        "all pages together",
    )?;
    same(keys(&durable, b"", None, 0).await?, vec![], "a limit of 0")
}

/// Keys and values are bytes, the empty ones included.
pub async fn keys_and_values_may_be_any_bytes(durable: Arc<dyn Durable>) -> Verdict {
    let every: Vec<u8> = (0..=255).collect();
    let large = vec![7; 3 << 20];
    let batch = Batch::new()
        .put(TABLE, &every, &every)
        .put(TABLE, b"", b"")
        .put(TABLE, b"large", &large);
    durable.commit(batch).await?;
    same(durable.get(TABLE, &every).await?, Some(every), "every byte")?;
    same(
        durable.get(TABLE, b"").await?,
        Some(Vec::new()),
        "the empty key",
    )?;
    holds(
        durable.get(TABLE, b"large").await? == Some(large),
        "a large value was changed",
    )
}

/// `commit` fails with `Conflict`, and writes nothing, if a check does not hold; it is atomic over all its tables.
pub async fn a_failed_check_writes_nothing(durable: Arc<dyn Durable>) -> Verdict {
    durable.commit(Batch::new().put(TABLE, b"a", b"1")).await?;
    let batch = Batch::new()
        .check(TABLE, b"a", Some(b"1"))
        .check(OTHER, b"b", Some(b"1"));
    let batch = batch.put(TABLE, b"a", b"2").put(OTHER, b"b", b"2");
    refused(
        durable.commit(batch).await,
        ErrorKind::Conflict,
        "one of two checks fails",
    )?;
    same(
        durable.get(TABLE, b"a").await?,
        Some(b"1".to_vec()),
        "row `a`",
    )?;
    same(durable.get(OTHER, b"b").await?, None, "row `b`")
}

/// A check names the value a row has, or that it is absent.
pub async fn checks_see_presence_absence_and_value(durable: Arc<dyn Durable>) -> Verdict {
    let check = |value| Batch::new().check(TABLE, b"a", value);
    durable.commit(check(None).put(TABLE, b"a", b"")).await?;
    refused(
        durable.commit(check(None)).await,
        ErrorKind::Conflict,
        "absent, but it is there",
    )?;
    refused(
        durable.commit(check(Some(b"x"))).await,
        ErrorKind::Conflict,
        "another value",
    )?;
    durable.commit(check(Some(b"")).delete(TABLE, b"a")).await?;
    refused(
        durable.commit(check(Some(b""))).await,
        ErrorKind::Conflict,
        "empty, but it is absent",
    )?;
    // Checks look at what was there before the batch, not at its own writes.
    durable.commit(check(None).put(TABLE, b"a", b"1")).await?;
    Ok(())
}

/// Of concurrent commits with the same check, each of which makes it fail, exactly one succeeds.
pub async fn of_concurrent_commits_one_succeeds(durable: Arc<dyn Durable>) -> Verdict {
    for round in 0..10_u8 {
        let old = durable.get(TABLE, b"turn").await?;
        let attempts = (0..16_u8).map(|writer| {
            let batch = Batch::new().check(TABLE, b"turn", old.as_deref());
            let batch = batch.put(TABLE, b"turn", &[round, writer]);
            let durable = durable.clone();
            tokio::spawn(async move { durable.commit(batch).await })
        });
        let mut winners = 0;
        for result in join_all(attempts).await {
            match result? {
                Ok(()) => winners += 1,
                lost => refused(lost, ErrorKind::Conflict, "a commit that came too late")?,
            }
        }
        same(winners, 1, "winners")?;
    }
    Ok(())
}

/// `commit` is atomic: a reader sees all of its writes or none.
pub async fn concurrent_readers_see_whole_batches(durable: Arc<dyn Durable>) -> Verdict {
    let writer = durable.clone();
    let writing = tokio::spawn(async move {
        for round in 0..50_u8 {
            let batch = (0..20_u8).fold(Batch::new(), |batch, i| batch.put(TABLE, &[i], &[round]));
            writer.commit(batch).await?;
        }
        Ok::<_, tappaas_core::Error>(())
    });
    while !writing.is_finished() {
        let rows = durable.scan(TABLE, b"", None, 100).await?;
        let torn = rows.iter().any(|row| row.value != rows[0].value);
        holds(
            !torn && matches!(rows.len(), 0 | 20),
            "a reader saw half a batch",
        )?;
    }
    Ok(writing.await??)
}

/// A batch that checks and writes nothing succeeds.
pub async fn an_empty_batch_succeeds(durable: Arc<dyn Durable>) -> Verdict {
    Ok(durable.commit(Batch::new()).await?)
}

/// A table's name that is empty or too long, and a batch above its bound, are `Invalid`.
pub async fn bad_names_and_large_batches_are_refused(durable: Arc<dyn Durable>) -> Verdict {
    let long = "x".repeat(Batch::TABLE_MAX + 1);
    for name in ["", &long] {
        let put = Batch::new().put(TABLE, b"a", b"1").put(name, b"a", b"1");
        refused(
            durable.commit(put).await,
            ErrorKind::Invalid,
            "a commit to a bad name",
        )?;
        refused(
            durable.get(name, b"a").await,
            ErrorKind::Invalid,
            "reading a bad name",
        )?;
        refused(
            durable.scan(name, b"", None, 1).await,
            ErrorKind::Invalid,
            "scanning a bad name",
        )?;
    }
    let large = Batch::new().put(TABLE, b"a", &vec![0; Batch::SIZE_MAX]);
    refused(
        durable.commit(large).await,
        ErrorKind::Invalid,
        "a batch above its bound",
    )?;
    same(durable.get(TABLE, b"a").await?, None, "row `a`")
}

async fn keys(
    durable: &Arc<dyn Durable>,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> tappaas_core::Result<Vec<Vec<u8>>> {
    let rows = durable.scan(TABLE, prefix, after, limit).await?;
    Ok(rows.into_iter().map(|row| row.key).collect())
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn row(key: &str, value: &str) -> Row {
    Row {
        key: bytes(key),
        value: bytes(value),
    }
}
