//! The contract of [`SecretStore`], case by case.

use std::sync::Arc;

use futures::{StreamExt as _, future::join_all};
use tappaas_core::{
    ErrorKind,
    backend::{Secret, SecretPath, SecretPrecondition, SecretStore, SecretVersion},
};

use super::{
    Failure, PATIENCE, Verdict,
    macros::ensure,
    verdict::{refused, same},
};

/// Expands to a test for each sentence of the contract of [`SecretStore`](tappaas_core::backend::SecretStore).
///
/// Takes an expression for a fresh, empty `Arc<dyn SecretStore>`, which may `.await`, and before it, optionally, the attribute that
/// makes a test: `#[tokio::test]` if none is given.
#[macro_export]
macro_rules! secrets_conformance {
    (#[$test:meta] $fresh:expr) => {
        $crate::conformance_tests! { secrets, $test, $fresh,
            what_is_put_is_read_byte_for_byte
            the_newest_version_is_read
            older_versions_stay_readable_where_versioned
            an_absent_secret_is_created_once
            an_outdated_version_is_a_conflict
            of_concurrent_writers_one_succeeds
            an_unknown_secret_is_none_and_may_be_deleted
            delete_removes_every_version
            list_returns_the_paths_below_a_prefix_in_order
            watch_names_a_secret_that_changed
        }
    };
    ($fresh:expr) => {
        $crate::secrets_conformance!(
            #[tokio::test]
            $fresh
        );
    };
}

/// What is put is read back, whatever its bytes.
pub async fn what_is_put_is_read_byte_for_byte(store: &Arc<dyn SecretStore>) -> Verdict {
    let large = vec![7; 60_000];
    for (name, value) in [
        ("text", &b"value"[..]),
        ("bytes", b"\0\xff\n"),
        ("large", &large),
    ] {
        let path = path(&format!("a/b/{name}"));
        let version = put(store, &path, value, SecretPrecondition::Any).await?;
        let read = store
            .get(&path, None)
            .await?
            .ok_or("a secret just put is not there")?;
        ensure!(
            read.value.expose() == value && read.version == version,
            "{path}: version {version} came back as another value or as version {}",
            read.version
        );
    }
    Ok(())
}

/// `get` returns the newest version.
pub async fn the_newest_version_is_read(store: &Arc<dyn SecretStore>) -> Verdict {
    let path = path("a");
    let mut last = 0;
    for value in ["one", "two", "two", "three"] {
        let version = put(store, &path, value.as_bytes(), SecretPrecondition::Any).await?;
        ensure!(version > last, "version {version} follows {last}");
        last = version;
        let read = store.get(&path, None).await?;
        ensure!(
            is(read.as_ref(), version, value),
            "version {version} is not what is read"
        );
        let read = store.get(&path, Some(version)).await?;
        ensure!(
            is(read.as_ref(), version, value),
            "version {version} is not read by its number"
        );
    }
    Ok(())
}

/// Where versioned, older versions stay readable after a `put`; elsewhere asking for one is `NotFound`.
pub async fn older_versions_stay_readable_where_versioned(store: &Arc<dyn SecretStore>) -> Verdict {
    let path = path("a");
    let one = put(store, &path, b"one", SecretPrecondition::Any).await?;
    let two = put(store, &path, b"two", SecretPrecondition::Any).await?;
    let older = store.get(&path, Some(one)).await;
    if store.capabilities().versioned {
        ensure!(
            is(older?.as_ref(), one, "one"),
            "version {one} is not readable after {two}"
        );
    } else {
        refused(older.map(drop), ErrorKind::NotFound, "an older version")?;
    }
    match store.get(&path, Some(two + 7)).await {
        Ok(Some(_)) => Err("a version never written is there".into()),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// `put` with `Absent` fails with `AlreadyExists` if the secret is there.
pub async fn an_absent_secret_is_created_once(store: &Arc<dyn SecretStore>) -> Verdict {
    let path = path("a");
    let version = put(store, &path, b"one", SecretPrecondition::Absent).await?;
    let answer = put(store, &path, b"two", SecretPrecondition::Absent).await;
    refused(answer, ErrorKind::AlreadyExists, "a secret that is there")?;
    let read = store.get(&path, None).await?;
    ensure!(
        is(read.as_ref(), version, "one"),
        "the refused value is there"
    );
    store.delete(&path).await?;
    put(store, &path, b"three", SecretPrecondition::Absent).await?;
    Ok(())
}

/// `put` with a version fails with `Conflict` if the secret has another one.
pub async fn an_outdated_version_is_a_conflict(store: &Arc<dyn SecretStore>) -> Verdict {
    let path = path("a");
    let one = put(store, &path, b"one", SecretPrecondition::Any).await?;
    let two = put(store, &path, b"two", SecretPrecondition::Version(one)).await?;
    let answer = put(store, &path, b"three", SecretPrecondition::Version(one)).await;
    refused(
        answer,
        ErrorKind::Conflict,
        "a version that is not the newest",
    )?;
    let read = store.get(&path, None).await?;
    ensure!(is(read.as_ref(), two, "two"), "the refused value is there");
    Ok(())
}

/// Of concurrent writers that expect the same version exactly one succeeds.
pub async fn of_concurrent_writers_one_succeeds(store: &Arc<dyn SecretStore>) -> Verdict {
    let path = path("a");
    let mut expected = SecretPrecondition::Absent;
    for _ in 0..5 {
        let writers = (0..8).map(|_| put(store, &path, b"value", expected));
        let written = join_all(writers).await;
        let won: Vec<u64> = written.into_iter().flatten().collect();
        let [version] = won.as_slice() else {
            return Err(format!("of 8 writers these succeeded: {won:?}").into());
        };
        expected = SecretPrecondition::Version(*version);
    }
    Ok(())
}

/// `get` of what is not there returns `None`; `delete` of it succeeds.
pub async fn an_unknown_secret_is_none_and_may_be_deleted(store: &Arc<dyn SecretStore>) -> Verdict {
    let path = path("a");
    ensure!(
        store.get(&path, None).await?.is_none(),
        "a secret never put is there"
    );
    store.delete(&path).await?;
    put(store, &path, b"one", SecretPrecondition::Any).await?;
    store.delete(&path).await?;
    store.delete(&path).await?;
    ensure!(
        store.get(&path, None).await?.is_none(),
        "a deleted secret is there"
    );
    Ok(())
}

/// `delete` removes every version.
pub async fn delete_removes_every_version(store: &Arc<dyn SecretStore>) -> Verdict {
    let path = path("a");
    let one = put(store, &path, b"one", SecretPrecondition::Any).await?;
    let two = put(store, &path, b"two", SecretPrecondition::Any).await?;
    store.delete(&path).await?;
    for version in [one, two] {
        let left = store.get(&path, Some(version)).await;
        let gone = left.map_or_else(
            |error| error.kind() == ErrorKind::NotFound,
            |left| left.is_none(),
        );
        ensure!(gone, "version {version} is there after delete");
    }
    same(store.list("").await?, vec![], "the secrets left")
}

/// `list` returns the paths that start with a prefix, in order.
pub async fn list_returns_the_paths_below_a_prefix_in_order(
    store: &Arc<dyn SecretStore>,
) -> Verdict {
    for name in ["b/x", "a/y/z", "ab", "a/x"] {
        put(store, &path(name), b"value", SecretPrecondition::Any).await?;
    }
    for (prefix, expected) in [
        ("", &["a/x", "a/y/z", "ab", "b/x"][..]),
        ("a", &["a/x", "a/y/z", "ab"]),
        ("a/", &["a/x", "a/y/z"]),
        ("a/y/z", &["a/y/z"]),
        ("c", &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|name| path(name)).collect();
        same(
            store.list(prefix).await?,
            expected,
            &format!("the secrets below `{prefix}`"),
        )?;
    }
    Ok(())
}

/// `watch` names a path soon after it changed.
pub async fn watch_names_a_secret_that_changed(store: &Arc<dyn SecretStore>) -> Verdict {
    let (one, other) = (path("one"), path("other"));
    put(store, &one, b"old", SecretPrecondition::Any).await?;
    let mut names = store.watch().await?;
    for change in 0..3 {
        match change {
            0 => drop(put(store, &one, b"new", SecretPrecondition::Any).await?),
            1 => drop(put(store, &other, b"new", SecretPrecondition::Any).await?),
            _ => store.delete(&one).await?,
        }
        let changed = if change == 1 { &other } else { &one };
        let named = async {
            while let Some(name) = names.next().await {
                if name == *changed {
                    return Ok(());
                }
            }
            Err(Failure::from("the watch ended"))
        };
        let late = |_| Err(format!("no name came for {changed}").into());
        tokio::time::timeout(PATIENCE, named)
            .await
            .unwrap_or_else(late)?;
    }
    Ok(())
}

async fn put(
    store: &Arc<dyn SecretStore>,
    path: &SecretPath,
    value: &[u8],
    precondition: SecretPrecondition,
) -> tappaas_core::Result<u64> {
    store.put(path, &Secret::new(value), precondition).await
}

fn is(found: Option<&SecretVersion>, version: u64, value: &str) -> bool {
    found.is_some_and(|found| found.version == version && found.value.expose() == value.as_bytes())
}

fn path(path: &str) -> SecretPath {
    SecretPath::new(path).expect("suites use valid paths")
}
