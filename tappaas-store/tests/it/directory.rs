use std::os::unix::fs::PermissionsExt;

use redb::{Database, TableDefinition};
use serde_json::json;
use tappaas_core::{Chain, ErrorKind, Precondition, Store};

use crate::fixture::{application, create, directory, open};

const META: TableDefinition<&[u8], &[u8]> = TableDefinition::new("meta");

#[tokio::test]
async fn a_second_store_on_a_directory_is_told_who_has_it() {
    let directory = directory();
    let first = open(directory.path()).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let holder = format!("in use by process {}", std::process::id());
    assert!(error.message().contains(&holder), "{error}");
    let path = directory.path().display().to_string();
    assert!(error.message().contains(&path), "{error}");
    create(&first, "a").await;
    drop(first);
    open(directory.path()).unwrap();
}

#[test]
fn a_lock_file_left_behind_keeps_nobody_out() {
    let directory = directory();
    std::fs::write(directory.path().join("lock"), "1\n").unwrap();
    open(directory.path()).unwrap();
}

#[test]
fn nobody_else_may_read_a_store() {
    let parent = directory();
    let directory = parent.path().join("deep/inside");
    let store = open(&directory).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for entry in std::fs::read_dir(&directory).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    drop(store);
}

#[test]
fn a_newer_format_is_refused_untouched() {
    let directory = directory();
    drop(open(directory.path()).unwrap());
    let newer = directory.path().join("store-2.redb");
    std::fs::rename(directory.path().join("store-1.redb"), &newer).unwrap();
    let before = std::fs::read(&newer).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let chain = Chain(&error).to_string();
    assert!(
        chain.contains("the data has format 2, and this version knows 1"),
        "{chain}"
    );
    assert!(std::fs::read(&newer).unwrap() == before);
    assert!(!directory.path().join("store-1.redb").exists());
}

#[tokio::test]
async fn a_newer_format_under_an_old_name_is_refused_and_keeps_its_data() {
    let directory = directory();
    let store = open(directory.path()).unwrap();
    let object = create(&store, "a").await;
    drop(store);
    let file = directory.path().join("store-1.redb");
    write_format(&file, 2);
    let error = open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    write_format(&file, 1);
    let store = open(directory.path()).unwrap();
    assert_eq!(
        Store::get(&store, &object.key()).await.unwrap(),
        Some(object)
    );
}

#[test]
fn a_file_that_is_no_store_is_refused_untouched() {
    for content in ["", "something else, which somebody may miss"] {
        let directory = directory();
        let file = directory.path().join("store-1.redb");
        std::fs::write(&file, content).unwrap();
        let error = open(directory.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
        assert!(error.message().contains("store-1.redb"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
    }
}

#[test]
fn a_creation_that_was_cut_short_is_begun_again() {
    let directory = directory();
    std::fs::write(
        directory.path().join("store-1.unfinished"),
        "half of a file",
    )
    .unwrap();
    drop(open(directory.path()).unwrap());
    let names = std::fs::read_dir(directory.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["lock", "store-1.redb"]);
}

#[tokio::test]
async fn a_closed_store_answers_nothing_and_can_be_opened_again() {
    let directory = directory();
    let store = open(directory.path()).unwrap();
    let object = create(&store, "a").await;
    store.close();
    let answers = [
        store
            .put(application("b", json!(1)), Precondition::Absent)
            .await
            .map(drop),
        Store::get(&store, &object.key()).await.map(drop),
        store.compact(1).await,
    ];
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    let again = open(directory.path()).unwrap();
    assert_eq!(
        Store::get(&again, &object.key()).await.unwrap(),
        Some(object)
    );
}

fn write_format(file: &std::path::Path, format: u64) {
    let database = Database::create(file).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(META).unwrap();
        let sealed = sealed("meta", b"format", &format.to_be_bytes());
        table.insert(&b"format"[..], &*sealed).unwrap();
    }
    transaction.commit().unwrap();
}

/// A value with its checksum, as the file has it.
fn sealed(table: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    for part in [table.as_bytes(), key] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(value);
    [&hasher.finalize().to_le_bytes(), value].concat()
}
