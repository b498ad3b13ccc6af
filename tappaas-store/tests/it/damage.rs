use redb::{Database, TableDefinition};
use serde_json::json;
use tappaas_core::{Batch, Chain, Durable, ErrorKind, Precondition, Store};

use crate::fixture::{application, create, directory, open};

#[tokio::test]
async fn a_row_that_was_changed_behind_the_stores_back_is_named_and_harms_no_other() {
    let directory = directory();
    let store = open(directory.path()).unwrap();
    let a = create(&store, "a").await;
    let b = create(&store, "b").await;
    store
        .commit(Batch::new().put("keys", b"k1", b"v1"))
        .await
        .unwrap();
    drop(store);
    tamper(directory.path(), "objects.Application", |value| {
        *value.last_mut().unwrap() ^= 1;
    });
    tamper(directory.path(), "durable.keys", |value| value.truncate(2));
    let store = open(directory.path()).unwrap();
    let write = store.put(a.clone(), Precondition::Present).await.map(drop);
    for answer in [Store::get(&store, &a.key()).await.map(drop), write] {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        let chain = Chain(&error).to_string();
        assert!(
            chain.contains("row `one/p/e/a` of table `objects.Application` is damaged"),
            "{chain}"
        );
    }
    let error = Durable::get(&store, "keys", b"k1").await.unwrap_err();
    assert!(
        Chain(&error)
            .to_string()
            .contains("row `k1` of table `durable.keys`"),
        "{error:?}"
    );
    assert_eq!(Store::get(&store, &b.key()).await.unwrap(), Some(b.clone()));
    store.put(b, Precondition::Present).await.unwrap();
}

#[tokio::test]
async fn a_page_that_was_changed_on_the_disk_is_found_when_the_store_opens() {
    let directory = directory();
    let store = open(directory.path()).unwrap();
    store
        .put(
            application("a", json!("a needle in the file")),
            Precondition::Absent,
        )
        .await
        .unwrap();
    drop(store);
    let file = directory.path().join("store-1.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let needle = b"a needle in the file";
    // The history has it too, and there may be old pages with it.
    let places: Vec<_> = (0..bytes.len())
        .filter(|&at| bytes[at..].starts_with(needle))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 1;
    }
    std::fs::write(&file, bytes).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    let chain = Chain(&error).to_string();
    assert!(chain.contains("store-1.redb"), "{chain}");
    assert!(
        chain.contains("of table `history.Application` is damaged"),
        "{chain}"
    );
}

#[tokio::test]
async fn a_file_that_lost_its_end_is_refused() {
    let directory = directory();
    let store = open(directory.path()).unwrap();
    store
        .put(
            application("a", json!("x".repeat(100_000))),
            Precondition::Absent,
        )
        .await
        .unwrap();
    drop(store);
    let file = directory.path().join("store-1.redb");
    let bytes = std::fs::read(&file).unwrap();
    for length in [100, 4096, 8192, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&file, &bytes[..length]).unwrap();
        let error = open(directory.path()).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Internal,
            "{length} bytes: {error:?}"
        );
    }
}

/// Changes the first row of a table, with all checksums of the database as they should be.
fn tamper(directory: &std::path::Path, table: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let database = Database::create(directory.join("store-1.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let table = TableDefinition::<&[u8], &[u8]>::new(table);
        let mut table = transaction.open_table(table).unwrap();
        let (key, mut value) = {
            let (key, value) = table.pop_first().unwrap().unwrap();
            (key.value().to_vec(), value.value().to_vec())
        };
        change(&mut value);
        table.insert(&*key, &*value).unwrap();
    }
    transaction.commit().unwrap();
}
